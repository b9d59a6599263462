"""Least squares whose answers are not negative."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["nonnegative"]

_ROUNDS = 2000
_ENOUGH = 1e-12  # of the largest answer, by which a round still changes one


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
