"""Tabulates the latency of single convolutions over their channels, cached on disk.

Kernels work on blocks of 16 channels: 17 take as long as 32. So the tables cover whole blocks, and
are finer only below one block. Channels that fill no block cost extra, in some backends much; a
smaller table holds this as a ratio.

Time is nearly bilinear in the blocks that are read and given, so the levels grow with the channels:
two for each doubling in the convolutions of the program, one for two doublings in those of other
forms. A table has at most 18 levels along an axis up to 4096 channels; were every block measured,
it would be 256, and most of the time would go into the widest.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfx.deploy.latency.disk_store import Store
from gfx.deploy.latency.measure import Measurer
from gfx.deploy.latency.single_conv import ConvSite
from gfx.progress import out_of_time, stopped

__all__ = ["LatencyTable", "Library", "Most", "Times", "levels", "odd_levels"]

Numbers = NDArray[np.float64]
_SMALL = (1, 4, 5)  # up to 4 input channels have kernels of their own
BLOCK = 16  # channels per step of a CPU kernel
_FINE = (*_SMALL, 16, 32, *(width << k for k in range(12) for width in (48, 64)))
_COARSE = tuple(4**k for k in range(9))
_ODD = (13, 61, 253, 1021)
_FEW_ODD = (29, 509)


def levels(most: int, fine: bool = True) -> tuple[int, ...]:
    """Lists the channels at which a layer of up to `most` channels is measured.

    The last of the fine ones is `most` in whole blocks: the program as it is must be known exactly.
    The last of the coarse ones is a fine level, which forms of several ranks share.

    Example:
        >>> levels(100), levels(100, fine=False)
        ((1, 4, 5, 16, 32, 48, 64, 96, 112), (1, 4, 16, 64, 128))
    """
    if most < BLOCK:
        last = most
    elif fine:
        last = int(_blocks(most))
    else:
        last = next((level for level in _FINE if level >= most), int(_blocks(most)))
    return (*(level for level in (_FINE if fine else _COARSE) if level < last), last)


def odd_levels(most: int, fine: bool = True) -> tuple[int, ...]:
    """Lists channels that fill no block, at which a layer of up to `most` is measured.

    Example:
        >>> odd_levels(100), odd_levels(100, fine=False)
        ((13, 61), (29,))
    """
    return tuple(level for level in (_ODD if fine else _FEW_ODD) if level <= most)


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds over two numbers of channels.

    Example:
        >>> table = LatencyTable((1, 16, 32), (8,), np.array([[1.0], [2.0], [4.0]]), 16)
        >>> table(np.array([16, 17, 32]), np.array([8, 8, 8])).tolist()
        [2.0, 4.0, 4.0]
    """

    inputs: tuple[int, ...]  # levels
    outputs: tuple[int, ...]
    times: Numbers  # (inputs, outputs)
    aligned: int  # channels are even if they are a multiple of this
    odd_inputs: tuple[int, ...] = ()
    odd_outputs: tuple[int, ...] = ()
    ratios: Numbers | None = None  # (odd_inputs, odd_outputs): to the table's times

    def __call__(self, inputs: NDArray[Any], outputs: NDArray[Any]) -> Numbers:
        """Interpolates for some input and output channels, (n,) each; returns (n,)."""
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
        """Returns which channels fill no block."""
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
    """Interpolates in a table; beyond its end, extrapolates from the last step."""
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


Most = tuple[int, int, bool, bool]  # input and output channels at most; whether each may change
_CELLS = 1 << 21  # of a table that is expanded to every number of channels
_ALIGNED = {"onnxruntime": 4}  # channels that kernels of a backend can do without a rest
_BLOCK = 16


class Times:
    """The milliseconds of a site at any channels up to some, times a correction for the program."""

    def __init__(
        self, table: LatencyTable, most: tuple[int, int], slopes: tuple[float, ...]
    ) -> None:
        self.table, self.most, self.slopes = table, most, slopes

    def __call__(
        self, inputs: NDArray[np.int64], outputs: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Looks up convolutions. Shapes: inputs and outputs (n,); returns (n,)."""
        inputs, outputs = (
            np.clip(c, 1, most) for c, most in zip((inputs, outputs), self.most, strict=True)
        )
        if (self.most[0] + 1) * (self.most[1] + 1) <= _CELLS:
            found: NDArray[np.float64] = self._written[inputs, outputs]
            return found
        return self._computed(inputs, outputs)

    @cached_property
    def _written(self) -> NDArray[np.float64]:
        rows, columns = self.most[0] + 1, self.most[1] + 1
        i, j = np.divmod(np.arange(rows * columns), columns)
        return self._computed(np.maximum(i, 1), np.maximum(j, 1)).reshape(rows, columns)

    def _computed(
        self, inputs: NDArray[np.int64], outputs: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        a, b, c = self.slopes
        share = a + b * np.log2(inputs / self.most[0]) + c * np.log2(outputs / self.most[1])
        return self.table(inputs, outputs) * np.exp(np.clip(share, -_FAR, _FAR))


_FAR = 1.0  # a correction is within exp(-1) and exp(1): beyond, it would be an extrapolation


class Library:
    """Holds the tables of a backend on a number of threads."""

    def __init__(self, store: Store, measurer: Measurer, backend: str, threads: int) -> None:
        self._store, self._measurer = store, measurer
        self._backend, self._threads = backend, threads
        self._known: dict[tuple[str, Most, bool], LatencyTable] = {}

    def table(self, site: ConvSite, most: Most, fine: bool = True) -> LatencyTable:
        """Returns the table of a site up to some channels; measures missing entries.

        Once the time is over, those of the smallest and the largest channels are enough.
        """
        key = (site.key, most, fine)
        if key not in self._known:
            self._known[key] = self._made(site, most, fine)
        return self._known[key]

    def _made(self, site: ConvSite, most: Most, fine: bool) -> LatencyTable:
        inputs, outputs, reads, gives = most
        gives = gives and not site.multiple
        rows = levels(inputs, fine) if reads else (inputs,)
        columns = levels(outputs, fine) if gives else (outputs,)
        odd_rows = odd_levels(inputs, fine) if reads else (inputs,)
        odd_columns = odd_levels(outputs, fine) if gives else (outputs,)
        if out_of_time():
            stopped("some convolutions were measured at few channels, so predictions are rough")
            rows, columns, odd_rows, odd_columns = _ends(rows), _ends(columns), (), ()
        grid = [(i, j) for i in rows for j in columns]
        odd = [(i, j) for i in odd_rows for j in odd_columns] if reads or gives else []
        times = self._times(site, [*grid, *odd])
        aligned = _ALIGNED.get(self._backend, _BLOCK)
        plain = LatencyTable(
            rows, columns, _filled(times, grid, (len(rows), len(columns))), aligned
        )
        if not odd:
            return plain
        predicted = plain(*(np.array(numbers) for numbers in zip(*odd, strict=True)))
        shape = (len(odd_rows), len(odd_columns))
        ratios = _filled(times, odd, shape) / np.maximum(predicted, 1e-9).reshape(shape)
        return LatencyTable(rows, columns, plain.times, aligned, odd_rows, odd_columns, ratios)

    def _times(self, site: ConvSite, wanted: Iterable[tuple[int, int]]) -> Mapping[str, float]:
        """Returns milliseconds by channels, as "64 128"."""
        about = f"convolution {site.key}"
        known = self._store.read(about)
        missing = [p for p in dict.fromkeys(wanted) if f"{p[0]} {p[1]}" not in known]
        if missing:
            points = [site.at(*pair) for pair in missing]
            times = self._measurer.points(points, self._backend, self._threads)
            found = {f"{i} {j}": t for (i, j), t in zip(missing, times, strict=True)}
            self._store.write(about, found)
            known = {**known, **found}
        return known


def _ends(known: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the first and the last of some levels; the only one, if there is no other."""
    return tuple(dict.fromkeys((known[0], known[-1])))


def _filled(
    times: Mapping[str, float], pairs: list[tuple[int, int]], shape: tuple[int, int]
) -> NDArray[np.float64]:
    return np.array([times[f"{i} {j}"] for i, j in pairs], dtype=np.float64).reshape(shape)
