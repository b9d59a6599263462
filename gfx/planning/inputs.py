"""What one layer reads while a program runs on batches, as often as it is asked for."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from gfx.errors import InputError
from gfx.numerics import run
from gfx.planning.layers import Layer
from gfx.program import Program, has_effect

__all__ = ["Inputs"]


class Inputs:
    """Gives a layer's inputs, batch by batch: only what leads to them is run, and nothing is kept.

    Example:
        >>> import gfx
        >>> from gfx.planning.layers import layers_of
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> read = Inputs(program, layers_of(program)[1], [program.example_inputs])
        >>> [tuple(x.shape) for x in read], len(list(read))
        ([(1, 32, 4, 4)], 1)
    """

    def __init__(
        self, program: Program, layer: Layer, batches: Sequence[tuple[Any, ...]], seed: int = 0
    ) -> None:
        self.path, self.batches, self.seed = layer.path, batches, seed
        self.program = _until(program, layer)

    def __iter__(self) -> Iterator[Tensor]:
        for number, inputs in enumerate(self.batches):
            for value in run(self.program, inputs, self.seed):
                if not bool(torch.isfinite(value).all()):
                    raise InputError(
                        f"{self.path} reads values that are not finite on batch {number} of the "
                        "data; leave out what the model does not take"
                    )
                yield value


def _until(program: Program, layer: Layer) -> Program:
    """Cuts a program off where the layer is called last; it returns what each call reads."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    read = []
    for node in program.nodes():
        if node in layer.calls:
            # a copy: a later node may overwrite it
            read.append(graph.call_method("clone", (copies[node.all_input_nodes[0]],)))
            if len(read) == len(layer.calls):
                break
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(read))
    module = fx.GraphModule(program.module, graph)
    graph.eliminate_dead_code(has_effect)
    module.recompile()
    return Program(module, program.example_inputs)
