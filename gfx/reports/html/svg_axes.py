"""Draws the axes of a chart as SVG: ranges, round numbers on them, lines of the grid."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape

__all__ = ["ChartAxis", "bottom_axis", "left_axis"]

_STEPS = 5  # parts that a range has at most
_DECADES = 6  # of a logarithmic range, each with a number
_NARROW = 1e-9  # share of its numbers that a range spans at least
_LEAST = 1e-200  # what is smaller is nothing


@dataclass(frozen=True)
class ChartAxis:
    """A range of numbers, and where it begins and ends in the drawing.

    Example:
        >>> axis = ChartAxis(0.0, 2.0, 50.0, 250.0)
        >>> axis.place(0.5), axis.ticks()
        (100.0, [0.0, 0.5, 1.0, 1.5, 2.0])
        >>> ChartAxis(0.1, 10.0, 0.0, 100.0, log=True).place(1.0)
        50.0
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False  # low is above 0 then

    @staticmethod
    def over(
        values: Iterable[float], start: float, end: float, *, log: bool = False
    ) -> "ChartAxis":
        """Returns the axis that spans finite values, and a little more where they are all one.

        Example:
            >>> ChartAxis.over([3.0, 3.0], 0, 1).low < 3 < ChartAxis.over([3.0, 3.0], 0, 1).high
            True
        """
        found = list(values) or [0.0]
        low, high = min(found), max(found)
        size = max(abs(low), abs(high))
        if high - low <= max(_NARROW * size, _LEAST):
            more = max(0.05 * size, _LEAST) if size > _LEAST else 1.0
            low, high = low - more, high + more
        return ChartAxis(low, high, start, end, log)

    def place(self, value: float) -> float:
        """Returns where a value stands in the drawing."""
        if self.log:
            low, high, value = (math.log10(x) for x in (self.low, self.high, value))
        else:
            low, high = self.low, self.high
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Returns round numbers within the range, some five of them."""
        if self.log:
            found = self._decades()
            if len(found) >= 2:
                return found
        spread = self.high - self.low
        size = 10.0 ** math.floor(math.log10(spread / _STEPS))
        step = next(size * k for k in (1, 2, 5, 10) if size * k * _STEPS >= spread * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _decades(self) -> list[float]:
        """Returns powers of ten; of fewer than three also those times 2 and 5."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        every = max(1, math.ceil((last - first) / _DECADES))
        factors = (1, 2, 5) if last - first < 3 else (1,)
        found = [k * 10.0**n for n in range(first, last + 1, every) for k in factors]
        return [value for value in found if self.low <= value <= self.high]


def bottom_axis(
    x: ChartAxis,
    y: ChartAxis,
    height: float,
    name: str,
    write: Callable[[float], str] = "{:.3g}".format,
) -> str:
    """Returns the lines of the grid that stand up, their numbers and the name of the axis."""
    parts = []
    for value in x.ticks():
        at = x.place(value)
        parts.append(
            f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{y.start}" y2="{y.end}"/>'
            f'<text x="{at:.1f}" y="{y.start + 16}" text-anchor="middle">{write(value)}</text>'
        )
    middle = (x.start + x.end) / 2
    parts.append(f'<text x="{middle}" y="{height - 8}" text-anchor="middle">{escape(name)}</text>')
    return "".join(parts)


def left_axis(
    x: ChartAxis, y: ChartAxis, name: str = "", write: Callable[[float], str] = "{:.3g}".format
) -> str:
    """Returns the lines of the grid that lie, their numbers and the name of the axis."""
    parts = []
    for value in y.ticks():
        at = y.place(value)
        parts.append(
            f'<line class="grid" x1="{x.start}" x2="{x.end}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text x="{x.start - 6}" y="{at + 4:.1f}" text-anchor="end">{write(value)}</text>'
        )
    if name:
        parts.append(
            f'<text x="{-(y.start + y.end) / 2}" y="12" text-anchor="middle" '
            f'transform="rotate(-90)">{escape(name)}</text>'
        )
    return "".join(parts)
