"""Follows the resolution of every value through a graph.

A value's *level* is log2 of its number of places (height times width), counted in strides, pools
and enlargements: paddings and convolutions without padding change the size of a map and leave its
level. Levels are only compared, so that the image's size does not matter.

Where values meet, the one of highest level leads; one that is broadcast to it (a vector from a
squeeze-excite, a style, a label) comes in from the side, and so does one that a product of lower
level brings (pooled keys and values of attention, a computed weight).
"""

from dataclasses import dataclass, field, replace
from math import log2
from typing import Any

import torch
from torch import fx

from gfx.ir.ops import op_name
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate
from gfx.ir.stages.layer_calls import conv_stride, layers, places, sort_of, tensors_in

__all__ = ["APART", "Fact", "Map", "Reach", "survey"]

APART = 0.75  # levels that differ by more are different
_VECTOR = -1.0  # the level of what was pooled to one place: below any map
_SAME = 1.3  # a size that changed by less is that of a padding or of a convolution's border


@dataclass(frozen=True)
class Reach:
    """Holds what is known of the value of one node."""

    level: float | None = None  # None: its channel dimension is not known yet
    actual: float = 1.0  # places as counted where it was last known
    sources: tuple[tuple[fx.Node, bool], ...] = ()  # layers before it; whether resized since
    enlarged: bool = False  # by an interpolation since the last layer
    shrunk: bool = False  # by a pool, an interpolation or a move since the last layer
    spread: bool = False  # a vector, spread over a map
    given: bool = False  # depends on an input
    layered: bool = False  # depends on a layer
    latent: bool = False  # made from vectors alone
    base: float | None = None  # the level from which it was enlarged since the last layer


@dataclass
class Fact:
    """Holds what one layer does to the resolution."""

    node: fx.Node
    before: float
    after: float
    reach: Reach  # of what it reads
    strided: bool = False  # itself writes fewer places
    raises: bool = False  # itself, or by the shuffle that follows it

    @property
    def lowest(self) -> float:
        """The lowest level from the layer before it to what it writes."""
        base = self.before if self.reach.base is None else self.reach.base
        return min(base, self.before, self.after)

    @property
    def lowers(self) -> bool:
        """Whether it writes fewer places, or reads an input that was shrunk."""
        return self.strided or (self.reach.shrunk and not self.reach.layered)


@dataclass
class Map:
    """Holds what `survey` found out about a program."""

    reach: dict[fx.Node, Reach] = field(default_factory=dict)
    facts: dict[fx.Node, Fact] = field(default_factory=dict)  # by layer
    sides: set[tuple[fx.Node, fx.Node]] = field(default_factory=set)  # edges that come in sideways
    before: dict[fx.Node, set[fx.Node]] = field(default_factory=dict)  # what each follows from
    batch: int = 1


def survey(program: Program) -> Map:
    """Follows levels through a program."""
    propagate(program)
    found = Map(batch=_batch(program))
    walk = _Walk(program, found)
    for node in program.nodes():
        found.before[node] = {node}.union(*(found.before[n] for n in tensors_in(node)))
        found.reach[node] = walk.visit(node)
    return found


class _Walk:
    """Visits the nodes in order."""

    def __init__(self, program: Program, found: Map) -> None:
        self.program = program
        self.found = found
        self.layers = len(layers(program))

    def visit(self, node: fx.Node) -> Reach:
        """Returns what is known of a node's value."""
        value = node.meta.get("val")
        if node.op == "placeholder":
            return self._input(value)
        operands = tensors_in(node)
        if node.op in ("get_attr", "output") or not operands:
            return Reach()
        sort = sort_of(self.program, node)
        if sort == "layer":
            return self._layer(node, operands)
        reach = self._join(node, operands, sort)
        if sort in ("resize", "shuffle", "reduce"):
            return self._resized(node, operands[0], reach, sort)
        if sort == "pad" and reach.level is not None:  # its level stays
            return replace(reach, actual=places(self.program, node, value, self.found.batch))
        if sort == "spread" and reach.level is not None:
            return replace(reach, spread=reach.spread or reach.actual == 1)
        return reach

    def _input(self, value: Any) -> Reach:
        if not isinstance(value, torch.Tensor):
            return Reach(given=True)
        if value.ndim == 3:
            return Reach(given=True)  # (N, C, L) or (N, L, C): its first layer decides
        count = float(max(value.shape[2:].numel(), 1)) if value.ndim > 3 else 1.0
        return Reach(log2(count), count, given=True, latent=count == 1)

    def _layer(self, node: fx.Node, operands: list[fx.Node]) -> Reach:
        """Notes what a layer does; its weight and bias come in from the side."""
        source = operands[0]
        self.found.sides.update((o, node) for o in operands[1:] if o is not source)
        reach = self._resolved(node, source)
        assert reach.level is not None
        size, transposed = conv_stride(self.program, node)
        actual = places(self.program, node, node.meta["val"], self.found.batch)
        after = reach.level + (log2(size) if transposed else -log2(size))
        if reach.actual == 1 and actual > 1:
            after = log2(actual)  # a latent becomes a map
        elif actual == 1 and reach.actual > 1 and size == 1:
            after = _VECTOR
        held = self.found.reach[source].level  # higher where a move made channels of places
        highest = reach.level if held is None else max(held, reach.level)
        fact = Fact(node, reach.level, after, reach, strided=after < highest - APART)
        fact.raises = after > reach.level + APART
        self.found.facts[node] = fact
        latent = reach.latent and not fact.raises
        return Reach(
            after, actual, ((node, False),), given=reach.given, layered=True, latent=latent
        )

    def _resolved(self, node: fx.Node, source: fx.Node) -> Reach:
        """Returns the reach of what a node reads, once the number of its places is known."""
        reach = self.found.reach[source]
        actual = places(self.program, node, source.meta["val"], self.found.batch)
        if reach.level is None:
            return replace(reach, level=log2(actual), actual=actual)
        ratio = actual / reach.actual
        if 1 / _SAME**2 < ratio < _SAME**2:
            return reach
        if reach.level == _VECTOR and ratio > 1:
            return replace(reach, level=log2(actual), actual=actual, enlarged=reach.layered)
        if ratio > 1:  # moved from channels to places, or spread
            self._raise(reach)
            return _moved(reach, ratio, actual, latent=False)
        return replace(_moved(reach, ratio, actual), shrunk=True)

    def _raise(self, reach: Reach) -> None:
        """Notes that the layers before a shuffle raise the resolution."""
        for source, resized in reach.sources:
            if not (reach.spread or resized):
                self.found.facts[source].raises = True

    def _resized(self, node: fx.Node, source: fx.Node, reach: Reach, sort: str) -> Reach:
        """Follows a pool, an interpolation, a shuffle or a reduction."""
        before, after = source.meta["val"], node.meta["val"]
        while isinstance(after, tuple | list):
            after = after[0]
        if not isinstance(after, torch.Tensor) or before.ndim < 3:
            return reach
        if sort == "reduce":
            gone = before.ndim > 3 and (after.ndim == 2 or after.shape[2:].numel() == 1)
            return _pooled(reach) if gone and before.shape[2:].numel() > 1 else reach
        if after.ndim < 3:
            return reach
        reach = self._resolved(node, source)
        assert reach.level is not None
        actual = places(self.program, node, after, self.found.batch)
        if self._to_one_place(node, after):
            return _pooled(reach)
        if reach.level == _VECTOR:
            return replace(reach, spread=True)  # a pooled vector, spread over a map again
        factor = _factor(before, after)
        if factor == 1:
            return replace(reach, actual=actual)
        if sort == "shuffle":
            self._raise(reach)
            return replace(_moved(reach, factor, actual, latent=False), enlarged=reach.enlarged)
        if factor > 1:
            if not reach.layered:  # an input that is enlarged is an input
                return _moved(reach, factor, actual)
            base = reach.level if reach.base is None else min(reach.base, reach.level)
            return replace(_moved(reach, factor, actual), enlarged=True, base=base)
        return replace(_moved(reach, factor, actual), shrunk=True)

    def _to_one_place(self, node: fx.Node, value: torch.Tensor) -> bool:
        """Whether a node pools a whole map, at any image size."""
        called = type(self.program.submodule(node)).__name__ if node.op == "call_module" else ""
        adaptive = "adaptive" in (called or op_name(node)).lower()
        return adaptive and value.shape[2:].numel() == 1

    def _join(self, node: fx.Node, operands: list[fx.Node], sort: str) -> Reach:
        """Finds which of several values leads, and which come in from the side."""
        known = [(o, self.found.reach[o]) for o in operands]
        given = [(o, r) for o, r in known if r.given or r.layered] or known
        gated = self._gated(node, given)
        if gated is not None:
            return gated
        if len(given) == 1:
            return given[0][1]
        lead = max((r for _, r in given), key=lambda r: (_height(r), r.layered))
        sources: dict[fx.Node, bool] = {}
        enlarged = shrunk = False
        for operand, reach in given:
            lower = _height(reach) < _height(lead) - APART
            if lower and self._sideways(node, operand, reach, sort):
                self.found.sides.add((operand, node))
                continue
            for source, resized in reach.sources:  # a product has places of its own
                sources[source] = sources.get(source, False) or resized or sort == "product"
            enlarged, shrunk = enlarged or reach.enlarged, shrunk or reach.shrunk
        others = [r for _, r in given]
        return replace(
            lead,
            sources=tuple(sources.items()),
            enlarged=enlarged,
            shrunk=shrunk,
            layered=any(r.layered for r in others),
            latent=all(r.latent for r in others),
        )

    def _gated(self, node: fx.Node, given: list[tuple[fx.Node, Reach]]) -> Reach | None:
        """Finds a value times its own gate, `x * g(x)`: the gate comes in from the side.

        Unless most of the layers are in g: then x is masked by what the program is about.
        """
        if op_name(node) != "mul" or len(given) != 2:
            return None
        for (value, reach), (gate, _) in (given, given[::-1]):
            inside = self.found.before[gate] - self.found.before[value]
            count = sum(n in self.found.facts for n in inside)
            if value in self.found.before[gate] and reach.layered and 0 < 2 * count < self.layers:
                self.found.sides.add((gate, node))
                return reach
        return None

    def _sideways(self, node: fx.Node, operand: fx.Node, reach: Reach, sort: str) -> bool:
        """Whether a value of lower level is broadcast, and not of the leader's size by a move."""
        value, out = operand.meta["val"], node.meta["val"]
        if (
            reach.spread
            or reach.level == _VECTOR
            or sort == "product"
            or not isinstance(out, torch.Tensor)
        ):
            return True
        if not isinstance(value, torch.Tensor):
            return False
        return value.ndim < out.ndim or value.shape[2:] != out.shape[2:]


def _height(reach: Reach) -> float:
    """Orders values that meet."""
    if reach.level is None or reach.spread:
        return _VECTOR - 1
    return reach.level


def _moved(reach: Reach, factor: float, actual: float, **others: bool) -> Reach:
    level = (reach.level or 0.0) + log2(factor)
    sources = tuple((source, True) for source, _ in reach.sources)
    return replace(reach, level=level, actual=actual, sources=sources, **others)


def _pooled(reach: Reach) -> Reach:
    sources = tuple((source, True) for source, _ in reach.sources)
    return replace(reach, level=_VECTOR, actual=1.0, sources=sources, shrunk=True, enlarged=False)


def _factor(before: torch.Tensor, after: torch.Tensor) -> float:
    """Returns how many times as many places there are, each side a whole factor or its inverse."""
    factor = 1.0
    for old, new in zip(before.shape[2:], after.shape[2:], strict=False):
        ratio = new / max(old, 1)
        if ratio >= _SAME:
            factor *= max(round(ratio), 2)
        elif ratio <= 1 / _SAME and ratio > 0:
            factor /= max(round(1 / ratio), 2)
    return factor


def _batch(program: Program) -> int:
    """Returns the size of the example batch."""
    for node in program.nodes():
        value = node.meta.get("val")
        if node.op == "placeholder" and isinstance(value, torch.Tensor) and value.ndim > 1:
            return max(int(value.shape[0]), 1)
    return 1
