"""Builds and evaluates the latency model of one program on this machine.

1. Every 2-D convolution is measured alone, over a grid of input and output channels
   (gfx/deploy/latency/tables.py). Layers that differ only in their channels share a table.
2. The program is built at a few widths, and its nodes are timed one by one in torch. These times
   give the latency of all other nodes, and a correction of each convolution in its context.
3. The same programs are run whole by the backend. Least squares towards 1 give a factor for each
   kind of node, and a constant.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfx.compression.factor import Form
from gfx.costs import cost_of
from gfx.costs.symbolic.polynomials import Terms
from gfx.costs.symbolic.sizes import Symbols
from gfx.coupling import Group, Groups
from gfx.deploy.latency.correction import Curve, curve, nonnegative, slopes
from gfx.deploy.latency.disk_store import Store
from gfx.deploy.latency.factored_layers import FormTimes, Parts
from gfx.deploy.latency.measure import MachineMeasurer, Measurer
from gfx.deploy.latency.model_terms import Summand, Sums, Works, works_of
from gfx.deploy.latency.tables import Library, Times
from gfx.deploy.latency.width_samples import Samples, configurations
from gfx.deploy.timing import machine
from gfx.deploy.timing.backends import threads_of
from gfx.io.cache_folder import cache_folder
from gfx.ir.layers import Layer
from gfx.progress import each, out_of_time, stage

__all__ = ["LatencyModel", "latency_model"]

_RUNS = {"compile": 4}  # configurations measured whole; torch.compile takes half a minute for each
_SAMPLES, _FEW_SAMPLES, _FEWEST_SAMPLES = 10, 6, 3
_LARGE = 20_000_000_000  # MACs, from which a program is built at few widths
# how strongly factors are drawn to 1, of convolutions and of the rest, and the constant to 0
_PULLS = {"eager": (3.0, 3.0, 0.1), "compile": (1.0, 0.5, 0.5), "onnxruntime": (1.0, 0.5, 0.5)}


class LatencyModel:
    """Predicts the milliseconds of one run of a program at other widths.

    `groups` are the program's free groups, in the order of the columns that `predict` takes;
    `full` is the measured latency of the unchanged program, in milliseconds.
    """

    def __init__(
        self,
        groups: tuple[Group, ...],
        backend: str,
        threads: int,
        times: NDArray[np.float64],
        sums: Sums,
        factors: NDArray[np.float64],
        parts: Parts,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.groups = groups
        self.backend, self.threads = backend, threads
        self.full = float(times[0])
        self.notes = notes
        self.factors = dict(zip((*sums.kinds, "constant"), factors.tolist(), strict=True))
        self._sums, self._parts = sums, parts
        self._weights = factors

    def predict(self, widths: object) -> NDArray[np.float64]:
        """Predicts milliseconds.

        Args:
            widths: array-like (configurations, groups): kept channels of each of `self.groups`,
                from 1 to the group's size.

        Returns: (configurations,)
        """
        table = np.atleast_2d(np.asarray(widths))
        return np.asarray(self._weights[:-1] @ self._sums(table) + self._weights[-1])

    def of_forms(self, layer: Layer, forms: Sequence[Form | None]) -> FormTimes:
        """Returns how much slower forms of a convolution are than it, at any number of channels.

        The parts are measured alone, as the program's convolutions are.

        Raises: TimingError if the machine is too noisy to measure them.
        """
        return FormTimes(layer, forms, self._parts.of(layer.convolution))


def latency_model(
    groups: Groups,
    *,
    backend: str = "eager",
    threads: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    measurer: Measurer | None = None,
) -> LatencyModel:
    """Measures a program on this machine, and returns a model of its latency.

    Measurements are kept on disk, by machine, version of torch, backend and threads, and are not
    repeated.

    Args:
        groups: its channel groups.
        backend: runs the program: eager, compile or onnxruntime.
        threads: how many threads run it; None: as many as torch uses.
        cache: folder of measurements; None: GFX_CACHE, else the user's cache.
        measurer: measures milliseconds; None: this machine.

    Raises: InputError if the backend is not installed; TimingError if the machine is too noisy.
    """
    count = threads_of(threads)
    asked = measurer or MachineMeasurer()
    folder = cache_folder("latency", cache)
    stores = {b: Store(folder, machine().key(b, count)) for b in {"eager", backend}}
    symbols = Symbols(groups)
    works = works_of(groups, symbols)
    library = Library(stores[_tables(backend)], asked, _tables(backend), count)
    for work in each(works.convolving, "measuring convolutions over their channels"):
        library.table(work.site, work.most)
    rows = configurations([g.size for g in groups.free], _SAMPLES)[: _count(groups)]
    samples = Samples(groups, rows, asked, count)
    node_times = samples.nodes(stores["eager"])
    few = Samples(groups, rows[: _RUNS.get(backend, _SAMPLES)], asked, count)
    stage(f"measuring {len(few.rows)} narrowed programs with {backend}")
    times = few.programs(stores[backend], backend)
    placed = _Placed(symbols, works, library, rows, node_times, inside=backend != "onnxruntime")
    sums = Sums(symbols, placed.summands)
    factors = _factors(sums, few.rows, times, _PULLS[backend])
    parts = Parts(
        library, placed.slopes, dict(zip(sums.kinds, factors, strict=False)), placed.moved
    )
    notes = tuple(dict.fromkeys(note for store in stores.values() for note in store.notes))
    return LatencyModel(groups.free, backend, count, times, sums, factors, parts, notes)


def _count(groups: Groups) -> int:
    """Returns at how many widths a program is built: fewer if it is large, or the time is over."""
    if out_of_time():
        return _FEWEST_SAMPLES
    return _SAMPLES if cost_of(groups.program).macs.exact <= _LARGE else _FEW_SAMPLES


def _tables(backend: str) -> str:
    """Returns the backend that measures convolutions alone."""
    return "onnxruntime" if backend == "onnxruntime" else "eager"


class _Placed:
    """Fits the latency of a program's nodes to their times in the program."""

    def __init__(
        self,
        symbols: Symbols,
        works: Works,
        library: Library,
        rows: NDArray[np.int64],
        node_times: Sequence[dict[str, float]],
        inside: bool,
    ) -> None:
        self._symbols, self._rows, self._node_times = symbols, rows, node_times
        self._samples: dict[Any, list[tuple[int, int, float]]] = {}
        numbers = [n for w in works.convolving for n in (w.inputs, w.outputs)]
        channels = Terms(symbols, numbers)(rows).reshape(len(works.convolving), 2, len(rows))
        for work, (read, given) in zip(works.convolving, channels.tolist(), strict=True):
            found = self._samples.setdefault((work.site.key, work.most), [])
            if inside:
                found += [
                    (i, j, times[work.node])
                    for i, j, times in zip(read, given, node_times, strict=True)
                    if work.node in times
                ]
        self.slopes: dict[str, tuple[float, ...]] = {}
        made: dict[Any, Times] = {}
        for work in works.convolving:
            key = (work.site.key, work.most)
            if key not in made:
                table, samples = library.table(work.site, work.most), self._samples[key]
                found_slopes = slopes(table, work.most[:2], samples) if samples else (0.0, 0.0, 0.0)
                self.slopes[work.site.key] = found_slopes
                made[key] = Times(table, work.most[:2], found_slopes)
        self.summands = [
            Summand(w.kind, made[w.site.key, w.most], w.inputs, w.outputs) for w in works.convolving
        ]
        self.moved = self._others(works)

    def _others(self, works: Works) -> float:
        """Adds the nodes that are not convolutions; returns their mean milliseconds per element."""
        numbers = [n for w in works.others for n in (w.moved, w.macs)]
        sizes = Terms(self._symbols, numbers)(self._rows)
        sizes = sizes.reshape(len(works.others), 2, len(self._rows)).astype(np.float64)
        alike: dict[str, list[NDArray[np.float64]]] = {}
        for work, (moved, macs) in zip(works.others, sizes, strict=True):
            times = np.array([found.get(work.node, 0.0) for found in self._node_times])
            alike.setdefault(work.like, []).append(np.stack([moved, macs, times]))
        every = {like: np.concatenate(found, axis=1) for like, found in alike.items()}
        curves: dict[str, Curve] = {like: curve(*found) for like, found in every.items()}
        self.summands += [Summand(w.kind, curves[w.like], w.moved, w.macs) for w in works.others]
        total = sum((found.sum(axis=1) for found in every.values()), np.zeros(3))
        return float(total[2] / total[0]) if total[0] else 0.0


def _factors(
    sums: Sums, rows: NDArray[np.int64], times: NDArray[np.float64], pulls: tuple[float, ...]
) -> NDArray[np.float64]:
    """Fits a factor for each kind of node, and a constant in milliseconds."""
    unit = float(times.min()) * 0.1
    table = np.concatenate([sums(rows), np.full((1, len(rows)), unit)]) / times
    count = len(sums.kinds)
    towards = np.array([1.0] * count + [0.0])
    strong = ("convolution", "transposed", "depthwise")
    # a kind is pulled to 1 by its share of the time: no factor is free
    pull = np.array([pulls[0 if kind in strong else 1] for kind in sums.kinds] + [pulls[2]])
    found = nonnegative(table.T, np.ones(len(rows)), towards, pull * _shares(table))
    found[-1] *= unit
    return found


def _shares(table: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.maximum(np.sqrt((table**2).mean(axis=1)), 1e-3))
