"""The predicted milliseconds of a program as sums over its nodes, by kind."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfx.pricing.symbols import Number, Size, Symbols
from gfx.pricing.terms import Terms

__all__ = ["Summand", "Sums"]

_ROWS = 1 << 14  # configurations at once: what lies between stays in a cache


@dataclass(frozen=True)
class Summand:
    """What one node takes: a function of two formulas in the widths."""

    kind: str
    time: Callable[[Any, Any], NDArray[np.float64]]
    first: Number
    second: Number


class Sums:
    """Adds up what the nodes of each kind take; nodes that always take the same count at once."""

    def __init__(self, symbols: Symbols, summands: Sequence[Summand]) -> None:
        self.kinds = tuple(dict.fromkeys(s.kind for s in summands))
        self._counts = Counter(
            (s.kind, s.time, _frozen(s.first), _frozen(s.second)) for s in summands
        )
        numbers = {_frozen(n): n for s in summands for n in (s.first, s.second)}
        self._place = {key: i for i, key in enumerate(numbers)}
        self._terms = Terms(symbols, list(numbers.values()))

    def __call__(self, widths: NDArray[Any]) -> NDArray[np.float64]:
        """Returns the milliseconds of each kind.

        Shapes: widths (configurations, groups); returns (kinds, configurations).
        """
        parts = [self._some(widths[i : i + _ROWS]) for i in range(0, len(widths), _ROWS)]
        empty = np.zeros((len(self.kinds), 0))
        return np.concatenate(parts, axis=1) if parts else empty

    def _some(self, widths: NDArray[Any]) -> NDArray[np.float64]:
        values = self._terms(widths)
        found = np.zeros((len(self.kinds), len(widths)))
        for (kind, time, first, second), count in self._counts.items():
            times = time(values[self._place[first]], values[self._place[second]])
            found[self.kinds.index(kind)] += count * times
        return found


def _frozen(number: Number) -> Any:
    return frozenset(number.terms.items()) if isinstance(number, Size) else number
