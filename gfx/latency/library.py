"""Tables of convolutions, measured when first asked for and kept on disk."""

from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gfx.latency.measuring import Measurer
from gfx.latency.sites import Site
from gfx.latency.store import Store
from gfx.latency.tables import Table, levels, odd_levels

__all__ = ["Library", "Most", "Times"]

Most = tuple[int, int, bool, bool]  # input and output channels at most; whether each may change
_CELLS = 1 << 21  # of a table that is written out for every number of channels
_ALIGNED = {"onnxruntime": 4}  # channels that kernels of a backend can do without a rest
_BLOCK = 16


class Times:
    """Milliseconds of a site at any channels up to some, times a correction for the program."""

    def __init__(self, table: Table, most: tuple[int, int], slopes: tuple[float, ...]) -> None:
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
        self._known: dict[tuple[str, Most], Table] = {}

    def table(self, site: Site, most: Most) -> Table:
        """Returns the table of a site up to some channels; measures what is not known yet."""
        key = (site.key, most)
        if key not in self._known:
            self._known[key] = self._made(site, most)
        return self._known[key]

    def _made(self, site: Site, most: Most) -> Table:
        inputs, outputs, reads, gives = most
        fine = self._backend != "onnxruntime"
        rows = levels(inputs, fine) if reads else (inputs,)
        columns = levels(outputs, fine) if gives and not site.multiple else (outputs,)
        odd_rows = odd_levels(inputs) if reads else (inputs,)
        odd_columns = odd_levels(outputs) if gives and not site.multiple else (outputs,)
        grid = [(i, j) for i in rows for j in columns]
        odd = [(i, j) for i in odd_rows for j in odd_columns] if reads or gives else []
        times = self._times(site, [*grid, *odd])
        aligned = _ALIGNED.get(self._backend, _BLOCK)
        plain = Table(rows, columns, _filled(times, grid, (len(rows), len(columns))), aligned)
        if not odd:
            return plain
        foreseen = plain(*(np.array(numbers) for numbers in zip(*odd, strict=True)))
        shape = (len(odd_rows), len(odd_columns))
        ratios = _filled(times, odd, shape) / np.maximum(foreseen, 1e-9).reshape(shape)
        return Table(rows, columns, plain.times, aligned, odd_rows, odd_columns, ratios)

    def _times(self, site: Site, wanted: Iterable[tuple[int, int]]) -> Mapping[str, float]:
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


def _filled(
    times: Mapping[str, float], pairs: list[tuple[int, int]], shape: tuple[int, int]
) -> NDArray[np.float64]:
    return np.array([times[f"{i} {j}"] for i, j in pairs], dtype=np.float64).reshape(shape)
