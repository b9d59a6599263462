"""Finds the range of values in which a model takes images.

1. A model may say so itself: `image_range = (0.0, 1.0)`, an attribute.
2. What the model does to its input tells: a mean of colours that it subtracts (also as a 1x1
   convolution, the MeanShift of super-resolution), a division by 255, `2 * x - 1`.
3. Else how its output is bounded: Tanh, Sigmoid, a clamp, and what is multiplied and added after
   them. Generators give images in the range in which they take them.
4. Else it is assumed to be [-1, 1], and the report says so.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from gfx.errors import InputError
from gfx.io.data.range_from_graph import told_by_input, told_by_output
from gfx.ir.program import Program

__all__ = ["Range", "RangeFound", "find_range", "parse_range", "written"]

Range = tuple[float, float]

_NUMBER = r"([-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?)"
_TEXT = re.compile(rf"[\[(]?\s*{_NUMBER}\s*(?:\.\.|,|:|to)\s*{_NUMBER}\s*[\])]?", re.IGNORECASE)


@dataclass(frozen=True)
class RangeFound:
    """A range, and what tells it; `why` is empty if it is assumed."""

    low: float
    high: float
    why: str = ""

    @property
    def sentence(self) -> str:
        """States the range, and where it comes from, for a report."""
        if self.why:
            return f"images are scaled to {written((self.low, self.high))}, as {self.why}"
        return (
            f"assumed that the model takes images in {written((self.low, self.high))}; if not, "
            "give range=(0, 1), in the shell --range 0..1"
        )


def parse_range(value: Any) -> Range:
    """Reads a range: a pair of numbers, or text such as "0..1".

    Raises: InputError if it is none, or its first number is not the smaller.

    Example:
        >>> parse_range("0..1"), parse_range("-1..1"), parse_range((0, 255))
        ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
    """
    pair: Any = value
    if isinstance(value, str):
        match = _TEXT.fullmatch(value.strip())
        pair = match.groups() if match else ()
    try:
        low, high = (float(number) for number in pair)
    except (TypeError, ValueError) as error:
        raise InputError(f"range={value!r} is no range; write (0, 1), in the shell 0..1") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(
            f"range={value!r} goes from {low:g} to {high:g}; give black first, then white, as in "
            "(0, 1), in the shell 0..1"
        )
    return low, high


def written(range: Range) -> str:
    """Writes a range.

    Example:
        >>> written((-1.0, 1.0))
        '[-1, 1]'
    """
    return f"[{range[0]:g}, {range[1]:g}]"


def find_range(program: Program, model: nn.Module | None = None) -> RangeFound:
    """Finds the range of a program that takes one image (rules 1 to 4).

    `model` is what the program was made from, if it is known.

    Raises: InputError if the model's own attribute is no range.

    Example:
        >>> import gfx, torch
        >>> net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Sigmoid())
        >>> find_range(gfx.trace(net, torch.zeros(1, 3, 8, 8))).sentence
        "images are scaled to [0, 1], as the Sigmoid at the model's end tells"
    """
    stated = getattr(model, "image_range", None)
    if stated is not None:
        return RangeFound(*parse_range(stated), f"{type(model).__name__}.image_range says")
    found = told_by_input(program) or told_by_output(program)
    return RangeFound(-1.0, 1.0) if found is None else RangeFound(*found)
