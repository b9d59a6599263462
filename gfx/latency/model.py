"""The latency model of one program on this machine."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gfx.costing import cost_of
from gfx.coupling import Group, Groups
from gfx.coupling.values import Labeled
from gfx.factoring import Form
from gfx.factoring.layout import layout, whole
from gfx.latency.fitting import nonnegative
from gfx.latency.forms import FormTimes
from gfx.latency.measuring import Clocked, Measurer
from gfx.latency.narrowing import narrowed
from gfx.planning.layers import Layer
from gfx.pricing.symbols import Number, Symbols
from gfx.pricing.terms import Terms
from gfx.pricing.work import work

__all__ = ["LatencyModel", "latency_model"]

_RUNS = 8  # configurations measured, beside the program as it is


class LatencyModel:
    """Predicts the milliseconds of one run of a program at other widths."""

    def __init__(
        self,
        groups: tuple[Group, ...],
        backend: str,
        threads: int,
        full: float,
        terms: Terms,
        factors: NDArray[np.float64],
    ) -> None:
        self.groups = groups
        self.backend, self.threads = backend, threads
        self.full = full
        self._terms, self._factors = terms, factors

    def predict(self, widths: object) -> NDArray[np.float64]:
        """Predicts milliseconds.

        Args:
            widths: array-like (configurations, groups): kept channels of each of `self.groups`,
                from 1 to the group's size.

        Returns: (configurations,)
        """
        table = np.atleast_2d(np.asarray(widths))
        features = np.concatenate([self._terms(table), np.ones((1, len(table)))])
        predicted: NDArray[np.float64] = self._factors @ features
        return predicted

    def of_forms(self, layer: Layer, forms: Sequence[Form | None]) -> FormTimes:
        """Returns what forms of a convolution take more than it, at any number of channels."""
        return FormTimes(layer, forms, self._layer_time)

    def _layer_time(self, module: Any, form: Form | None, shape: tuple[int, ...]) -> float:
        parts = [whole(module)] if form is None else layout(module, form)
        moved = 0
        count = 0
        for part in parts:
            out = part.out(shape)
            moved += prod(shape) + prod(out)
            kernel = prod(part.weight) * prod(shape[2:] if part.transposed else out[2:])
            count += kernel * shape[0]
            shape = out
        return float(self._factors[0] * count + self._factors[1] * moved)


def latency_model(
    groups: Groups,
    *,
    backend: str = "eager",
    threads: int | None = None,
    cache: Any = None,
    progress: Callable[[str], None] | None = None,
    measurer: Measurer | None = None,
) -> LatencyModel:
    """Measures a program on this machine, and returns a model of its latency.

    Args:
        groups: its channel groups.
        backend: what runs it: eager, compile or onnxruntime.
        threads: how many threads run it; None: as many as torch uses.
        cache: folder of measurements; None: the user's own.
        progress: called with a sentence now and then.
        measurer: says what things take; None: the clock.
    """
    threads = torch.get_num_threads() if threads is None else threads
    symbols = Symbols(groups)
    terms = Terms(symbols, _features(symbols, groups))
    rows = _configurations(groups)
    programs = [narrowed(groups, row) for row in rows]
    times = np.array((measurer or Clocked()).programs(programs, backend, threads))
    table = np.concatenate([terms(np.array(rows)), np.ones((1, len(rows)))]).T / times[:, None]
    scale = np.maximum(table.max(axis=0), 1e-300)
    factors = nonnegative(table / scale, np.ones(len(rows))) / scale
    return LatencyModel(groups.free, backend, threads, float(times[0]), terms, factors)


def _features(symbols: Symbols, groups: Groups) -> list[Number]:
    cost = cost_of(groups.flow.program)
    nodes = {node.name: node for node in groups.flow.program.nodes()}
    count: Number = 0
    moved: Number = 0
    for row in cost.nodes:
        node = nodes[row.node]
        if row.macs.exact:
            count = count + work(symbols, node, row)[0]
        if row.activation_bytes:
            for n in (node, *node.all_input_nodes):
                value = symbols.flow.values.get(n)
                moved = moved + (prod(symbols.shape(value)) if isinstance(value, Labeled) else 0)
    return [count, moved]


def _configurations(groups: Groups) -> list[list[int]]:
    """Lists the widths that are measured: the program as it is, the smallest, and between."""
    full = np.array([group.size for group in groups.free])
    rng = np.random.default_rng(0)
    rows = [full, np.maximum(1, full // 8)]
    rows += [np.maximum(1, (full * rng.random(len(full))).astype(int)) for _ in range(_RUNS - 1)]
    return [row.tolist() for row in rows]
