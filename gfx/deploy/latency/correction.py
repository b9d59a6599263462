"""Corrects predicted latencies: fits measured times of nodes in context, by least squares.

The nodes are timed one by one in narrowed programs; no fitted time is negative.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gfx.deploy.latency.tables import LatencyTable

__all__ = ["Curve", "curve", "nonnegative", "slopes"]

_ROUNDS = 2000
_ENOUGH = 1e-12  # of the largest value; smaller changes end the rounds


def nonnegative(
    table: NDArray[np.float64],
    targets: NDArray[np.float64],
    towards: NDArray[np.float64] | None = None,
    pull: float | NDArray[np.float64] = 0.0,
) -> NDArray[np.float64]:
    """Finds x >= 0 of least |table x - targets|^2 + |pull (x - towards)|^2.

    One coordinate is solved exactly at a time, which converges for such problems.

    Shapes: table (rows, columns), targets (rows,), towards and pull (columns,); returns (columns,).

    Source: Lawson & Hanson 1974, chapter 23 (the problem); coordinate descent.

    Example:
        >>> nonnegative(np.array([[1.0, 1.0], [1.0, 3.0]]), np.array([5.0, 9.0])).round(6).tolist()
        [3.0, 2.0]
    """
    count = table.shape[1]
    towards = np.zeros(count) if towards is None else towards
    weights = np.broadcast_to(np.asarray(pull, dtype=np.float64), (count,)) ** 2
    gram = table.T @ table + np.diag(weights)
    right = table.T @ targets + weights * towards
    found: NDArray[np.float64] = np.maximum(towards, 0.0).astype(np.float64)
    for _ in range(_ROUNDS):
        before = found.copy()
        for i in np.flatnonzero(gram.diagonal() > 0):
            found[i] = max(0.0, found[i] + (right[i] - gram[i] @ found) / gram[i, i])
        if np.abs(found - before).max(initial=0.0) <= _ENOUGH * found.max(initial=0.0):
            break
    return found


Numbers = NDArray[np.float64]
_FLOOR = 0.1  # share of the longest time below which errors count in ms, not as shares
_PULLS = (0.3, 1.0, 1.0)  # towards no correction, in numbers of samples


class Curve:
    """Milliseconds over elements moved and products: with a bend where memory gets slower.

    Example:
        >>> Curve(100.0, np.array([1.0, 0.5, 0.0, 0.0]))(np.array([4.0]), np.array([0.0])).tolist()
        [3.0]
    """

    def __init__(self, bend: float, factors: Numbers) -> None:
        self.bend, self.factors = bend, factors

    def __call__(self, moved: Numbers, macs: Numbers) -> Numbers:
        """Returns milliseconds. Shapes: moved and macs (n,); returns (n,)."""
        return np.asarray(self.factors @ _features(self.bend, moved, macs))


def curve(moved: Numbers, macs: Numbers, times: Numbers) -> Curve:
    """Fits a curve to nodes of one kind. Shapes: all (samples,)."""
    bend = float(np.median(moved))
    table = _features(bend, moved, macs)
    weight = 1 / np.maximum(times, max(_FLOOR * times.max(), 1e-9))
    scaled = table * weight
    size = np.maximum(scaled.max(axis=1), 1e-300)
    factors = nonnegative((scaled / size[:, None]).T, times * weight) / size
    return Curve(bend, factors)


def slopes(
    table: LatencyTable, most: tuple[int, int], samples: Sequence[tuple[int, int, float]]
) -> tuple[float, ...]:
    """Fits how much slower the convolutions of a site are in a program than alone.

    The logarithm of the ratio is a constant, plus a term for each halving of the input and output
    channels. With few samples it is pulled to 0.

    Args:
        table: measured alone.
        most: channels read and given, at most.
        samples: input and output channels, and milliseconds in the program.
    """
    inputs, outputs = (np.array([s[i] for s in samples]) for i in (0, 1))
    times = np.array([s[2] for s in samples])
    alone = np.maximum(table(inputs, outputs), 1e-9)
    weight = np.sqrt(alone / alone.max())
    features = np.stack(
        [np.ones(len(samples)), np.log2(inputs / most[0]), np.log2(outputs / most[1])]
    )
    scaled = features * weight
    gram = scaled @ scaled.T + np.diag(_PULLS)
    ratio = np.log(np.maximum(times, 1e-9) / alone).clip(-_FAR, _FAR)
    found = np.linalg.solve(gram, scaled @ (ratio * weight))
    return tuple(found.tolist())


_FAR = 1.0  # the measured time of a single node may be far off


def _features(bend: float, moved: Numbers, macs: Numbers) -> Numbers:
    return np.stack([np.ones(len(moved)), moved, np.maximum(moved - bend, 0.0), macs])
