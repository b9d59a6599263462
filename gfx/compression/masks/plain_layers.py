"""Which layers numbers may be written into, and nothing else of the program changes."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor, fx, nn

from gfx.coupling.labels import Mask
from gfx.ir.program import Program

__all__ = ["PlainLayers"]


class PlainLayers:
    """Knows which layers may be written into: plain ones that share no tensor.

    What they make is zero at each of their calls, or they are called once.

    Example:
        >>> import gfx
        >>> program = gfx.trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()))
        >>> conv = list(program.nodes())[1]
        >>> PlainLayers(program, {}).plain(conv, nn.Conv2d, once=True)
        Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
    """

    def __init__(self, program: Program, common: Mapping[tuple[fx.Node, int], Mask]) -> None:
        self.program = program
        self.common = common  # by value and dimension: what all that reads it reads as zero
        self.read: dict[tuple[fx.Node, fx.Node], fx.Node] = {}  # products in the place of values
        self.calls: dict[int, list[fx.Node]] = {}
        for node in program.nodes():
            if node.op == "call_module":
                self.calls.setdefault(id(program.submodule(node)), []).append(node)
        self.owners = Counter(id(tensor) for tensor in _tensors(program))

    def plain(self, node: Any, kinds: Any, *, once: bool = False) -> Any:
        """Returns the layer that a node calls, if it is of these kinds and may be written into."""
        if not isinstance(node, fx.Node) or node.op != "call_module":
            return None
        layer = self.program.submodule(node)
        if not isinstance(layer, kinds) or not type(layer).__module__.startswith("torch.nn."):
            return None
        if layer._forward_hooks or layer._forward_pre_hooks or hasattr(layer, "parametrizations"):
            return None  # its tensors are not what runs
        held = [*layer.parameters(), *layer.buffers()]
        several = len(self.calls[id(layer)]) > 1
        if several and (once or not self._alike(layer, node)):
            return None
        if any(self.owners[id(t)] > 1 for t in held):
            return None
        return layer

    def _alike(self, layer: nn.Module, node: fx.Node) -> bool:
        """Whether each call of a layer may make the same zeros."""
        own = {dim: zeros for (n, dim), zeros in self.common.items() if n is node}
        others = [n for n in self.calls[id(layer)] if n is not node]
        there = {dim: [self.common.get((n, dim)) for n in others] for dim in own}
        same = [z is not None and np.array_equal(z, own[d]) for d, zs in there.items() for z in zs]
        return bool(own) and all(same)


def _tensors(program: Program) -> Iterator[Tensor]:
    """Iterates over all that holds or reads a tensor."""
    for module in program.module.modules():  # each once, whatever it is called
        held = (*module._parameters.values(), *module._buffers.values())
        yield from (tensor for tensor in held if tensor is not None)
    for node in program.nodes():
        value: Any = program.module
        if node.op == "get_attr":
            for name in str(node.target).split("."):
                value = getattr(value, name)
            if isinstance(value, Tensor):
                yield value
