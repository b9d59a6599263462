"""Searches around a configuration of widths for one that is nearer to the budgets."""

from collections.abc import Callable, Iterator, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from gfx.coupling.labels import Ids
from gfx.progress import each, out_of_time, stopped

__all__ = ["nearest"]

Fill = Callable[[Ids], NDArray[np.float64]]

_ALL = 200_000  # configurations: up to here every one is tried
_ROUNDS = 8
_MOVES = 50_000  # random moves in a round
_MOVED = 4  # groups that one move changes at most
_CHUNK = 10_000


def nearest(
    fill: Fill, kept: Ids, levels: Sequence[Ids], tolerance: float
) -> tuple[Ids, Ids | None]:
    """Finds the configuration nearest below the budgets, and the nearest above.

    If there are few configurations, all are tried. If there are many, those in which one group has
    another width are tried, and random ones in which up to four groups move by one or two steps;
    then again from the best of these. Of several within the tolerance, the one with the fewest
    changes to the given configuration is taken.

    Args:
        fill: prices configurations as a share of the budgets; at most 1 keeps them.
        kept: the configuration to start from; it meets the budgets.
        levels: the widths that each group may have, ascending.
        tolerance: how far below 1 is near enough.
    """
    best = _Best(kept, levels, tolerance, float(fill(kept[None])[0]))
    if prod(len(options) for options in levels) <= _ALL:
        for table in _every(levels):
            best.consider(table, fill(table))
        return best.below, best.above
    rng = np.random.default_rng(0)
    for number in each(range(_ROUNDS), "searching around the nearest widths"):
        if number and out_of_time():
            stopped("not all widths around the nearest were tried")
            break
        start = best.below
        for table in _around(start, levels, rng):
            best.consider(table, fill(table))
        if best.fill >= 1 - tolerance or np.array_equal(start, best.below):
            break
    return best.below, best.above


class _Best:
    """Keeps the best configurations below and above the budgets."""

    def __init__(self, kept: Ids, levels: Sequence[Ids], tolerance: float, fill: float) -> None:
        self.below, self.above = kept, None
        self.fill, self.over = fill, np.inf
        self._origin, self._enough = kept, 1 - tolerance
        self._sizes = np.array([options[-1] for options in levels], dtype=np.int64)
        self._moved = np.inf  # of the first within the tolerance

    def consider(self, table: Ids, fills: NDArray[np.float64]) -> None:
        """Compares some configurations with the best so far."""
        over = np.where(fills > 1, fills, np.inf)
        if over.min(initial=np.inf) < self.over:
            self.above, self.over = table[over.argmin()], float(over.min())
        good = (fills <= 1) & (fills >= self._enough)
        if good.any():
            moved = (np.abs(table - self._origin) / self._sizes).sum(axis=1)
            moved = np.where(good, moved, np.inf)
            at = int(moved.argmin())
            if moved[at] < self._moved:
                self.below, self.fill, self._moved = table[at], float(fills[at]), float(moved[at])
            return
        under = np.where(fills <= 1, fills, -1)
        if self._moved == np.inf and under.max(initial=-1) > self.fill:
            self.below, self.fill = table[under.argmax()], float(under.max())


def _every(levels: Sequence[Ids]) -> Iterator[Ids]:
    """Iterates over every configuration, in blocks."""
    counts = [len(options) for options in levels]
    for start in range(0, prod(counts), _CHUNK):
        numbers = np.arange(start, min(start + _CHUNK, prod(counts)))
        places = np.unravel_index(numbers, counts)
        yield np.stack([options[at] for options, at in zip(levels, places, strict=True)], axis=1)


def _around(kept: Ids, levels: Sequence[Ids], rng: np.random.Generator) -> Iterator[Ids]:
    """Iterates over configurations nearby: one group at another width, or small moves."""
    count = len(levels)
    singles = [(i, width) for i, options in enumerate(levels) for width in options.tolist()]
    for start in range(0, len(singles), _CHUNK):
        part = singles[start : start + _CHUNK]
        table = np.tile(kept, (len(part), 1))
        table[np.arange(len(part)), [i for i, _ in part]] = [width for _, width in part]
        yield table
    longest = max(len(options) for options in levels)
    padded = np.stack([np.pad(o, (0, longest - len(o)), mode="edge") for o in levels])
    last = np.array([len(options) - 1 for options in levels])
    at = np.array([np.searchsorted(o, w) for o, w in zip(levels, kept, strict=True)])
    for _ in range(_MOVES // _CHUNK):
        moved = np.tile(at, (_CHUNK, 1))
        rows = np.arange(_CHUNK)
        for _ in range(_MOVED):
            moved[rows, rng.integers(0, count, _CHUNK)] += rng.integers(-2, 3, _CHUNK)
        moved = np.clip(moved, 0, last)
        yield padded[np.arange(count), moved]
