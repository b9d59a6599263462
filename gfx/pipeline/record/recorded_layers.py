"""Lists the layers of a program for its report: path, kind, channels, cost."""

from dataclasses import dataclass

import torch
from torch import fx

from gfx.costs import Cost, Macs, cost_of
from gfx.ir.program import Program
from gfx.ir.stages import layer_path, layers, stages

__all__ = ["RecordedLayer", "channels_of", "layers_of"]


@dataclass(frozen=True)
class RecordedLayer:
    """One convolution, transposed convolution or linear of a program.

    Units: channels, multiply-accumulates, parameter elements.
    """

    node: str  # name of the node
    path: str  # module path, or that of its weight
    kind: str  # class of the module, or the function
    stage: str  # stem, down, body, up or head
    inputs: int  # channels that it reads
    outputs: int  # channels that it writes
    shape: tuple[int, ...]  # of its output
    macs: Macs
    params: int


def layers_of(program: Program, cost: Cost | None = None) -> tuple[RecordedLayer, ...]:
    """Lists the layers of a program in the order in which they run.

    `cost` is that of the program, with its nodes, if it is known.

    Raises: InputError if the program does not run on its example inputs.

    Example:
        >>> import gfx
        >>> [layer.outputs for layer in layers_of(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))]
        [32, 16, 8, 4, 3]
    """
    rows = {row.node: row for row in (cost_of(program) if cost is None else cost).nodes}
    stage = stages(program)
    found = []
    for node in layers(program):
        row = rows[node.name]
        kind = row.kind if node.op == "call_module" else row.target
        own = [rows[n.name].params for n in _weights(node)]
        found.append(
            RecordedLayer(
                node=node.name,
                path=layer_path(node),
                kind=kind,
                stage=stage.get(node.name, "body"),
                inputs=channels_of(node.all_input_nodes[0], kind),
                outputs=channels_of(node, kind),
                shape=row.shape or (),
                macs=row.macs,
                params=row.params + sum(own),
            )
        )
    return tuple(found)


def _weights(node: fx.Node) -> list[fx.Node]:
    """Lists the program's tensors that a functional layer's weight and bias come from."""
    if node.op == "call_module":
        return []
    near = node.all_input_nodes[1:]
    for found in near:
        near += [n for n in found.all_input_nodes if n not in near and n.op != "call_module"]
    return [n for n in near if n.op == "get_attr"]


def channels_of(node: fx.Node, kind: str) -> int:
    """Counts the channels of a node's value: dimension 1, for a linear the last one."""
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor) or not value.ndim:
        return 0
    flat = kind.lower() == "linear" or value.ndim <= 2
    return int(value.shape[-1] if flat else value.shape[1])
