"""Tables of what a convolution takes over its channels, and what lies between their entries.

Kernels work on blocks of 16 channels: 17 take what 32 take. So the tables are over whole blocks,
and fine only where there is less than one. Channels that fill no block cost something of their
own, in some backends much; a smaller table says how much, as a ratio.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Table", "levels", "odd_levels"]

Numbers = NDArray[np.float64]
_SMALL = (1, 4, 5)  # up to 4 input channels have kernels of their own
BLOCK = 16  # channels that the kernels of a CPU handle at once
_STEPS = ((256, 16), (512, 32), (1024, 64), (1 << 16, 128))  # up to so many, by so many
_COARSE = ((64, 16), (128, 32), (512, 64), (1024, 128), (1 << 16, 256))
_ODD = (13, 29, 61, 125, 253, 509, 1021, 2045)


def levels(most: int, fine: bool = True) -> tuple[int, ...]:
    """Lists the channels at which something of up to so many channels is measured.

    Example:
        >>> levels(100)
        (1, 4, 5, 16, 32, 48, 64, 80, 96, 112)
    """
    last = most if most < BLOCK else int(_blocks(most))
    found = [level for level in _SMALL if level < last]
    level, steps = BLOCK, _STEPS if fine else _COARSE
    while level < last:
        found.append(level)
        level += next(step for end, step in steps if level < end)
    return (*found, last)


def odd_levels(most: int) -> tuple[int, ...]:
    """Lists channels that fill no block, at which something of up to so many is measured.

    Example:
        >>> odd_levels(100)
        (13, 29, 61)
    """
    return tuple(level for level in _ODD if level <= most)


@dataclass(frozen=True)
class Table:
    """Milliseconds over two numbers of channels.

    Example:
        >>> table = Table((1, 16, 32), (8,), np.array([[1.0], [2.0], [4.0]]), 16)
        >>> table(np.array([16, 17, 32]), np.array([8, 8, 8])).tolist()
        [2.0, 4.0, 4.0]
    """

    inputs: tuple[int, ...]  # levels
    outputs: tuple[int, ...]
    times: Numbers  # (inputs, outputs)
    aligned: int  # channels are even if they are a multiple of this
    odd_inputs: tuple[int, ...] = ()
    odd_outputs: tuple[int, ...] = ()
    ratios: Numbers | None = None  # (odd_inputs, odd_outputs): to what the table says

    def __call__(self, inputs: NDArray[Any], outputs: NDArray[Any]) -> Numbers:
        """Looks up convolutions of some input and output channels, (n,) each; returns (n,)."""
        found = _bilinear(
            self.inputs,
            self.outputs,
            self.times,
            _whole(inputs, self.inputs),
            _whole(outputs, self.outputs),
        )
        if self.ratios is None:
            return found
        ratio = _bilinear(
            [np.log2(v) for v in self.odd_inputs],
            [np.log2(v) for v in self.odd_outputs],
            self.ratios,
            np.log2(inputs),
            np.log2(outputs),
        )
        return np.where(self.odd(inputs), ratio, 1.0) * found

    def odd(self, channels: NDArray[Any]) -> NDArray[np.bool_]:
        """Tells which channels fill no block."""
        return np.asarray((channels > BLOCK) & (channels % self.aligned != 0))


def _blocks(channels: Any) -> Any:
    return -(-channels // BLOCK) * BLOCK


def _whole(channels: NDArray[Any], known: Sequence[int]) -> NDArray[Any]:
    """Rounds channels up to whole blocks, where there are as many levels."""
    if len(known) == 1:
        return np.full(len(channels), known[0])
    return np.where(channels <= BLOCK, channels, _blocks(channels))


def _bilinear(
    rows: Sequence[float], columns: Sequence[float], table: Numbers, x: Any, y: Any
) -> Numbers:
    """Interpolates in a table; beyond its end, in proportion to the last step."""
    i, a = _place(rows, x)
    j, b = _place(columns, y)
    k, m = np.minimum(i + 1, len(rows) - 1), np.minimum(j + 1, len(columns) - 1)
    low = table[i, j] * (1 - b) + table[i, m] * b
    high = table[k, j] * (1 - b) + table[k, m] * b
    return np.asarray(low * (1 - a) + high * a)


def _place(known: Sequence[float], x: Any) -> tuple[NDArray[np.int64], Numbers]:
    """Returns the level below each value, and the share of the way to the next."""
    grid = np.asarray(known, dtype=np.float64)
    if len(grid) == 1:
        return np.zeros(len(x), dtype=np.int64), np.zeros(len(x))
    i = np.clip(np.searchsorted(grid, x, side="right") - 1, 0, len(grid) - 2)
    return i, np.clip((x - grid[i]) / (grid[i + 1] - grid[i]), 0.0, 1.0)
