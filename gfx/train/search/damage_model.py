"""Models the loss of subnets as a sum over choices, fitted on what was judged.

loss(row)^p - loss(largest)^p = Σ_d f_d(row_d)

1. f_d is linear between knots, the choices of d that were judged most often, and 0 at the largest.
2. The sum is fitted by ridge regression, so that choices that were seen little stay near the line
   between their neighbours.
3. p is the one of few powers that predicts the trials best that it did not see.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfx.train.search.search_space import Table

__all__ = ["DamageModel"]

_POWERS = (1.0, 2.0, 0.5)
_KNOTS = 4  # of a dimension, beside its largest choice
_FOLDS = 5
_ABOVE = 0.02

Floats = NDArray[np.float64]


class DamageModel:
    """Predicts losses, lower is better.

    Args:
        counts: choices of each dimension.
        rows: subnets that were judged.
        losses: theirs.
        weights: how much each of them says.
    """

    def __init__(
        self, counts: Sequence[int], rows: Table, losses: Floats, weights: Floats | None = None
    ) -> None:
        self.counts = tuple(counts)
        self._knots = [_knots(count) for count in counts]
        features = self._features(rows)
        given = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=float)
        # what is bent is the damage, a little above 0 for the best
        spread = float(losses.max() - losses.min()) or 1.0
        self._shift = float(losses.min()) - _ABOVE * spread
        best = min(_POWERS, key=lambda p: self._error(features, losses, given, p))
        self._power = best
        self._coefficients = _ridge(features, self._bent(losses, best), given)

    def predict(self, rows: Table) -> Floats:
        """Returns the losses that are expected."""
        found = np.maximum(self._features(rows) @ self._coefficients, 1e-12)
        straight: Floats = found ** (1 / self._power) + self._shift
        return straight

    def _bent(self, losses: Floats, power: float) -> Floats:
        bent: Floats = np.maximum(losses - self._shift, 1e-12) ** power
        return bent

    def _error(self, features: Floats, losses: Floats, weights: Floats, power: float) -> float:
        """Returns the squared error on trials that were left out."""
        total = 0.0
        for fold in range(_FOLDS):
            out = np.arange(len(losses)) % _FOLDS == fold
            if out.all() or not out.any():
                continue
            found = _ridge(features[~out], self._bent(losses[~out], power), weights[~out])
            made = np.maximum(features[out] @ found, 1e-12) ** (1 / power) + self._shift
            total += float((weights[out] * (made - losses[out]) ** 2).sum())
        return total

    def _features(self, rows: Table) -> Floats:
        """Writes rows as hat functions of every dimension, and a constant."""
        columns: list[Floats] = [np.ones((len(rows), 1))]
        for dim, knots in enumerate(self._knots):
            hats = np.eye(len(knots) + 1)
            places: Any = np.array([*knots, self.counts[dim] - 1], dtype=float)
            at: Any = rows[:, dim].astype(float)
            hat = [np.interp(at, places, hats[k]) for k in range(len(knots))]
            stacked: Any = np.stack(hat, axis=1)
            columns.append(stacked)
        found: Floats = np.concatenate(columns, axis=1)
        return found


def _knots(count: int) -> tuple[int, ...]:
    """Returns choices below the largest, spread over all."""
    return tuple(sorted({round(k * (count - 1) / _KNOTS) for k in range(_KNOTS)} - {count - 1}))


def _ridge(features: Floats, wanted: Floats, weights: Floats) -> Floats:
    """Fits by least squares; all but the constant are drawn towards 0 by a little."""
    scaled = features * np.sqrt(weights)[:, None]
    drawn = 1e-3 * max(float((scaled**2).sum(0)[1:].mean()) if scaled.shape[1] > 1 else 1.0, 1e-9)
    ridge = np.diag([0.0, *[drawn] * (features.shape[1] - 1)])
    gram = scaled.T @ scaled + ridge + 1e-12 * np.eye(features.shape[1])
    solved: Any = np.linalg.solve(gram, scaled.T @ (wanted * np.sqrt(weights)))
    found: Floats = solved
    return found
