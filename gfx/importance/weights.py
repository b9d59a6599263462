"""Importances that look at the weights alone."""

import numpy as np

from gfx.coupling import Group, Groups
from gfx.importance.layers import (
    Reduce,
    Scores,
    combined,
    finite,
    levelled,
    per_channel,
    squashed,
    weights_of,
)

__all__ = ["magnitude"]


def magnitude(groups: Groups, group: Group, reduce: Reduce, power: int) -> Scores:
    """Scores channels by the norms of their slices: Σ|w| (power 1) or √Σw² (power 2)."""
    rows = []
    for member, value in weights_of(groups, group):
        sums = per_channel(member, squashed(value, member.dim, power), group.size)
        norms = sums if power == 1 else np.sqrt(sums)
        rows.append(levelled(finite(norms, member.tensor)))
    return combined(rows, group.size, reduce)
