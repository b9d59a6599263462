"""Writes readable names into an ONNX file: nodes by module path, dimensions by meaning."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import fx

from gfx.deploy.export.capture import origin

__all__ = ["clean", "name_dims", "name_nodes", "output_names", "renamed"]

_FX_NODE = "pkg.torch.onnx.fx_node"
_RULES = "pkg.onnxscript.rewriter.rule_name"


def output_names(program: torch.export.ExportedProgram) -> list[str]:
    """Names the outputs: `output` if there is one, else `output_0`, `output_1` and so on.

    Example:
        >>> from gfx.deploy.export.capture import capture
        >>> output_names(capture(torch.nn.ReLU(), (torch.ones(2),)))
        ['output']
    """
    signature = program.graph_signature
    taken = {*map(str, signature.user_inputs), *program.state_dict}
    count = len(signature.user_outputs)
    names = ["output"] if count == 1 else [f"output_{i}" for i in range(count)]
    return [f"{name}_" if name in taken else name for name in names]


def name_nodes(model: Any, program: torch.export.ExportedProgram, module: fx.GraphModule) -> None:
    """Names the nodes of an ONNX model by the module or node of the graph that they come from.

    A convolution of the module `up.0.conv` is named `up.0.conv/Conv`; of several nodes with one
    name, the later ones get a number.
    """
    paths = {n.name: str(n.target) if n.op == "call_module" else n.name for n in module.graph.nodes}
    made_from = {node.name: origin(node) for node in program.graph.nodes}
    seen: Counter[str] = Counter()
    for node in model.graph.node:
        where = _fused_into(node) or paths.get(made_from.get(_fx_name(node)) or "", "")
        name = f"{where}/{node.op_type}" if where else node.op_type
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name] - 1}"


def name_dims(model: Any, names: Mapping[str, str]) -> None:
    """Writes names for torch's symbols: `s40` becomes `batch`, also in `4*((s73//4))`."""
    for value in _values(model):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                dim.dim_param = renamed(dim.dim_param, names)


def renamed(size: str, names: Mapping[str, str]) -> str:
    """Writes a size with names instead of symbols.

    Example:
        >>> renamed("4*((s73//4))", {"s73": "height"})
        '4*((height//4))'
    """
    return re.sub(r"\bs\d+\b", lambda found: names.get(found[0], found[0]), size)


def clean(model: Any) -> None:
    """Removes torch's own metadata, such as the source files of a model's code."""
    for owner in (model, model.graph, *model.graph.node, *model.functions, *_values(model)):
        del owner.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]


def _values(model: Any) -> Iterator[Any]:
    yield from model.graph.input
    yield from model.graph.output
    yield from model.graph.value_info


def _fused_into(node: Any) -> str:
    """Names the layer whose weight a node reads, if onnxscript has fused a norm into it."""
    weight = node.input[1] if len(node.input) > 1 else ""
    return weight.rpartition(".")[0] if "Fuse" in _notes(node).get(_RULES, "") else ""


def _notes(node: Any) -> dict[str, str]:
    return {note.key: note.value for note in node.metadata_props}


def _fx_name(node: Any) -> str:
    """Reads the name of the torch node that an ONNX node comes from."""
    found = re.match(r"%(\w+)", _notes(node).get(_FX_NODE, ""))
    return found[1] if found else ""
