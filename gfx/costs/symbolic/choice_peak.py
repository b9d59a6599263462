"""Expresses peak activation memory of the subnets of a program with choices.

For the options that are taken it is found when each piece of memory is alive, once; its bytes
follow from the widths. What a choice returns lies in the memory of the operand that is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx

from gfx.costs.activation_memory import memory_of
from gfx.costs.count import cost_of
from gfx.costs.symbolic.peak_memory import Peak, corrected, crowded
from gfx.costs.symbolic.polynomials import Terms
from gfx.costs.symbolic.sizes import Number, Size, Symbols
from gfx.ir.choice_nodes import alive, choices_of, take, when_alive

__all__ = ["ChoicePeak"]

_KNOWN = 4096  # combinations of options whose lives are kept
Table = NDArray[Any]


@dataclass(frozen=True)
class _Lives:
    """What is alive at the places where a peak may be: (places, pieces) and (places, extras)."""

    pieces: NDArray[np.int64]
    extras: NDArray[np.int64]


class ChoicePeak(Peak):
    """Prices the peak of configurations: widths of groups, and the options that choices take."""

    def __init__(self, symbols: Symbols) -> None:
        super().__init__(symbols)
        program = symbols.groups.program
        self._nodes = tuple(program.nodes())
        self._choices = list(choices_of(program.module))
        self._when = when_alive(program.module)
        found = list(self._pieces(program))
        self._held = {piece.key: number for number, piece in enumerate(found)}
        self._memory = {node: [key for key, _ in memory_of(node)] for node in self._nodes}
        self._found = found
        sizes = [self._bytes(piece) for piece in found]
        self._bytes_of = Terms(symbols, sizes)
        # a factor that follows a node once its channels go: as much again as the node's own
        factors = {node: corrected(symbols, node) for node in self._nodes}
        self._grown = {node: n for node, n in factors.items() if isinstance(n, Size)}
        self._extras = Terms(symbols, [self._again(node, sizes) for node in self._grown])
        self._known: dict[tuple[int, ...], _Lives] = {}

    def at(self, widths: Table, options: Table) -> NDArray[np.int64]:
        """Returns the peak of each configuration, in bytes."""
        pieces, extras = self._bytes_of(widths), self._extras(widths)
        peaks = np.zeros(len(widths), dtype=np.int64)
        taken, which = np.unique(options, axis=0, return_inverse=True)
        for number, each in enumerate(taken.tolist()):
            rows = np.flatnonzero(which.ravel() == number)
            lives = self._lives_of(tuple(each))
            found = lives.pieces @ pieces[:, rows]
            if self._grown:
                found = found + lives.extras @ extras[:, rows]
            peaks[rows] = found.max(0)
        if len(self._watched.fixed):
            for row in np.flatnonzero((self._watched(widths) == 1).any(0)).tolist():
                peaks[row] = self.exact(widths[row], options[row])[0]
        return peaks

    def exact(self, widths: Table, options: Sequence[int]) -> tuple[int, str]:
        """Measures the peak of one configuration on a copy, and where it is."""
        small = self._narrowed(widths)
        take(small, [int(option) for option in options])
        rows = cost_of(small).nodes
        most = max(rows, key=lambda row: row.peak_activation_bytes)
        return most.peak_activation_bytes, most.node

    def _again(self, node: fx.Node, sizes: Sequence[Number]) -> Number:
        own = [self._held[key] for key in self._memory[node] if key in self._held]
        mine = [sizes[i] for i in own if self._found[i].node is node]
        total: Number = 0
        for size in mine:
            total = total + size * self._grown[node]
        return total

    def _lives_of(self, options: tuple[int, ...]) -> _Lives:
        found = self._known.get(options)
        if found is None:
            while len(self._known) >= _KNOWN:
                del self._known[next(iter(self._known))]
            found = self._known[options] = self._simulated(options)
        return found

    def _simulated(self, options: tuple[int, ...]) -> _Lives:
        """Finds when each piece of memory is alive, as `lives` does, of the nodes that are."""
        here, taken = alive(self._when, options), dict(zip(self._choices, options, strict=True))
        values: dict[fx.Node, set[int]] = {}
        last: dict[int, int] = {}
        for place, node in enumerate(self._nodes):
            if node not in here:
                continue
            if node in taken:
                operand = node.args[taken[node]]
                assert isinstance(operand, fx.Node)
                values[node] = values[operand]
                continue
            values[node] = {
                key for own in self._memory[node] for key in self._lies(own, node, values)
            }
            read = [values[source] for source in node.all_input_nodes]
            last |= dict.fromkeys(values[node].union(*read), place)
        spans = [
            (self._found[self._held[k]].first, end, self._held[k])
            for k, end in last.items()
            if k in self._held
        ]
        places = crowded({first for first, *_ in spans}, {end for _, end, _ in spans})
        grown = [(i, self._order[node.name]) for i, node in enumerate(self._grown) if node in here]
        pieces = np.zeros((len(places) + len(grown), len(self._found)), dtype=np.int64)
        extras = np.zeros((len(pieces), len(self._grown)), dtype=np.int64)
        for row, place in enumerate(places):
            for first, end, number in spans:
                pieces[row, number] = first <= place <= end
        for row, (i, place) in enumerate(grown, len(places)):
            extras[row, i] = 1
            node = self._nodes[place]
            for first, end, number in spans:
                own = self._found[number].node is node
                pieces[row, number] = first <= place and (end > place or own)
        return _Lives(pieces, extras)

    def _lies(self, key: int, node: fx.Node, values: dict[fx.Node, set[int]]) -> set[int]:
        """Returns the memory that a value lies in, where it lies in `key` without choices."""
        for source in node.all_input_nodes:
            if key in self._memory[source]:
                return {key} if key in values[source] else values[source]
        return {key}
