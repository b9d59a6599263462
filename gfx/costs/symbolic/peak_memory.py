"""Expresses peak activation memory as polynomials: one for each node where it may be reached.

Whether a reshape copies its input may depend on which dimensions have size 1. So the lives of
pieces of memory are those of the program as it is for the configurations in which nothing that is
reshaped has come down to one channel, and are looked up on a narrowed copy for any others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx, nn
from torch.utils import _pytree as pytree

from gfx.costs.activation_memory import lives, memory_of
from gfx.costs.count import cost_of
from gfx.costs.symbolic.polynomials import Terms
from gfx.costs.symbolic.sizes import Number, Size, Symbols
from gfx.coupling.labelled_tensor import Labeled, tensors
from gfx.coupling.removal import narrowed
from gfx.ir.ops import op_name
from gfx.ir.program import Program

__all__ = ["Peak", "Piece", "corrected", "crowded"]

_MAY_COPY = frozenset(("reshape", "flatten", "contiguous", "reshape_as", "unfold", "view_as"))


@dataclass(frozen=True)
class Piece:
    """Describes a piece of memory: its node in the original program, and its lifetime."""

    node: fx.Node
    leaf: int
    first: int
    last: int
    each: Fraction | None  # bytes per element; None if it has no elements
    count: int  # bytes now
    key: int  # identity of the memory


class Peak:
    """Prices the peak of configurations."""

    def __init__(self, symbols: Symbols) -> None:
        self._symbols = symbols
        nodes = tuple(symbols.groups.program.nodes())
        self._order = {n.name: i for i, n in enumerate(nodes)}
        self._plain = self._terms(symbols.groups.program)
        self._thin: dict[bytes, Terms] = {}
        # all factors are known by now
        found = {f for node in nodes for f in self._reshaped(node)}
        single = [Size({(f,): 1}) for f in sorted(found)]
        statistics = [n for n in nodes if n in symbols.groups.constants.weight_statistics]
        stored = [number for node in statistics if (number := symbols.stored(node))]
        self._watched = Terms(symbols, [*single, *stored])

    def __call__(self, widths: NDArray[Any]) -> NDArray[np.int64]:
        """Returns the peak of each configuration, in bytes."""
        peaks = self._plain(widths, np.maximum)
        if not len(self._watched.fixed):
            return peaks
        single = (self._watched(widths) == 1).T
        for row in np.flatnonzero(single.any(axis=1)).tolist():
            key = single[row].tobytes()
            if key not in self._thin:
                self._thin[key] = self._terms(self._narrowed(widths[row]))
            peaks[row] = self._thin[key](widths[row : row + 1], np.maximum)[0]
        return peaks

    def place(self, widths: NDArray[Any]) -> str:
        """Returns the name of the node at which one configuration reaches its peak."""
        rows = cost_of(self._narrowed(widths)).nodes
        return max(rows, key=lambda row: row.peak_activation_bytes).node

    def _terms(self, program: Program) -> Terms:
        return Terms(self._symbols, self._places(list(self._pieces(program)))).keep_largest()

    def _reshaped(self, node: fx.Node) -> Iterator[int]:
        """Lists the factors in what a node reads and gives, if it may give a copy or a view."""
        symbols, groups = self._symbols, self._symbols.groups
        module = groups.program.submodule(node) if node.op == "call_module" else None
        if op_name(node) not in _MAY_COPY and not isinstance(module, nn.Flatten):
            return
        values = map(groups.value_of, (node, *node.all_input_nodes))
        for value in (v for found in values for v in tensors(found)):
            for size in symbols.shape(value):
                yield from (f for p in size.terms for f in p) if isinstance(size, Size) else ()

    def _narrowed(self, widths: NDArray[Any]) -> Program:
        """Removes channels from a copy that has shapes and no content."""
        names = [group.name for group in self._symbols.free]
        by_name = dict(zip(names, widths.tolist(), strict=True))
        return narrowed(self._symbols.groups, by_name, content=False)

    def _pieces(self, program: Program) -> Iterator[Piece]:
        """Lists pieces of memory by the nodes and places of the original program."""
        nodes = list(program.nodes())
        place, places = 0, []
        for node in nodes:
            place = self._order.get(node.name, place)
            places.append(place)
        known = {n.name: n for n in self._symbols.groups.program.nodes()}
        found = lives(program)
        # a factor that a repair put after a node stands for that node
        stands = {life.node: life.node.args[0] for life in found if life.node.name not in known}
        for life in found:
            if any(life.node is node and nodes[life.last] is by for by, node in stands.items()):
                continue
            made: Any = stands.get(life.node, life.node)
            value = _leaves(life.node.meta["val"])[life.leaf]
            each = Fraction(life.count, value.numel()) if value.numel() else None
            first, last = places[life.first], places[life.last]
            key = list(memory_of(life.node))[life.leaf][0]
            yield Piece(known[made.name], life.leaf, first, last, each, life.count, key)

    def _places(self, pieces: Sequence[Piece]) -> list[Number]:
        """Returns the bytes alive at each place where they may be the most."""
        sized = [(piece, self._bytes(piece)) for piece in pieces]
        found: list[Number] = [
            _total([size for piece, size in sized if piece.first <= place <= piece.last])
            for place in crowded({p.first for p in pieces}, {p.last for p in pieces})
        ]
        for place, node in enumerate(self._symbols.groups.program.nodes()):
            changed = corrected(self._symbols, node)
            if isinstance(changed, Size):  # a factor follows the node once its channels go
                alive = [(p, s) for p, s in sized if p.first <= place]
                sizes = [s for p, s in alive if p.last > place and p.node is not node]
                own = [s * (1 + changed) for p, s in alive if p.node is node]
                found.append(_total([*sizes, *own]))
        return found

    def _bytes(self, piece: Piece) -> Number:
        """Returns the bytes of a piece of memory: for each element as many as it has now."""
        labeled = tensors(self._symbols.groups.value_of(piece.node))
        leaves = _leaves(piece.node.meta["val"])
        if len(leaves) != len(labeled) or piece.each is None:
            return piece.count
        elements: Number = prod(self._symbols.shape(labeled[piece.leaf]))
        return elements * piece.each


def _leaves(value: Any) -> list[Any]:
    return [leaf for leaf in pytree.tree_leaves(value) if hasattr(leaf, "shape")]


def crowded(begins: set[int], ends: set[int]) -> list[int]:
    """Lists the places before which something began and after which something ends.

    What is alive at any other place is also alive at one of these.
    """
    found, grown = [], False
    for place in sorted(begins | ends):
        grown = grown or place in begins
        if grown and place in ends:
            found.append(place)
            grown = False
    return found


def _total(sizes: Sequence[Number]) -> Number:
    total: dict[tuple[int, ...], Fraction] = {}
    for size in sizes:
        for product, number in size.terms.items() if isinstance(size, Size) else [((), size)]:
            total[product] = total.get(product, Fraction(0)) + number
    return Size(total)


def corrected(symbols: Symbols, node: fx.Node) -> Number:
    """Returns 1 if removal corrects a node's value by a factor (norm_corrections.py), else 0."""
    module = symbols.groups.program.submodule(node) if node.op == "call_module" else None
    rms = op_name(node) == "rms_norm" or isinstance(module, nn.RMSNorm)
    source = next(iter(node.all_input_nodes), None)
    if source is None or not (rms or op_name(node) == "mean"):
        return 0
    if not rms and any(node is statistic.node for statistic in symbols.groups.statistics):
        return 0  # it is that of the channels that are left
    value = symbols.groups.value_of(source)
    if not isinstance(value, Labeled) or not isinstance(symbols.groups.value_of(node), Labeled):
        return 0
    read = {read.dim for read in symbols.groups.reads if read.node is node}
    shape = symbols.shape(value)
    return symbols.changed([shape[d] for d in read])
