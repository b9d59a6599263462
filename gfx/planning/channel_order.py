"""Orders the removal of channels under budgets: in proportion over pools, or by saving.

Source: Shen et al. 2022, arXiv:2110.10811 (HALP: pruning as a knapsack); here greedily, by loss per
share of the budgets saved, priced anew at every step, as the saving of a channel depends on the
widths around it.
"""

from collections.abc import Callable, Sequence

import numpy as np

from gfx.compression.selection import Bounds, Selection
from gfx.coupling.labels import Ids
from gfx.planning.multiple_choice import Numbers

__all__ = ["by_gain", "removal_order"]

Shares = Callable[[Ids], Numbers]  # of each budget, by configuration (rows)

_STEPS = 64  # in which a group is removed


def removal_order(selection: Selection, bounds: Bounds, shares: Shares) -> Ids:
    """Lists group numbers in the order of removal, within the bounds.

    Pools lose channels in proportion to their size. With the scope `knapsack` the order is by
    importance per saving.
    """
    if selection.scope == "knapsack":
        return by_gain(selection.losses(bounds), selection.sizes, shares)
    return selection.alike(bounds)


def by_gain(losses: Sequence[Numbers], sizes: Ids, shares: Shares) -> Ids:
    """Lists group numbers in the order in which their channels are removed.

    Args:
        losses: of each group the damage of its channels in the order of removal, ascending.
        sizes: channels of each group.
        shares: prices configurations (rows) as shares of each budget.

    Example:
        >>> halves = [np.array([1.0, 2.0]), np.array([1.0, 5.0])]
        >>> by_gain(halves, np.array([4, 4]), lambda kept: kept * [[2.0, 1.0]]).tolist()
        [0, 0, 1, 1]
    """
    kept = sizes.copy()
    gone = np.zeros_like(sizes)
    steps = np.maximum(sizes // _STEPS, 1)
    most = np.array([len(loss) for loss in losses], dtype=np.int64)
    sums = [np.concatenate([[0.0], np.cumsum(loss)]) for loss in losses]
    order: list[Ids] = []
    while (gone < most).any():
        taken = np.minimum(steps, most - gone)
        table = np.tile(kept, (len(kept) + 1, 1))
        table[np.arange(len(kept)), np.arange(len(kept))] -= taken
        prices = shares(table).sum(axis=1)
        saved = prices[-1] - prices[:-1]
        lost = np.array([s[g + t] - s[g] for s, g, t in zip(sums, gone, taken, strict=True)])
        # a channel that saves nothing is removed last; a loss of 0 would put it first
        price = np.where(saved > 0, lost / np.where(saved > 0, saved, 1), np.inf)
        left = np.flatnonzero(taken)
        chosen = int(left[np.argmin(price[left])])
        order.append(np.full(taken[chosen], chosen))
        kept[chosen] -= taken[chosen]
        gone[chosen] += taken[chosen]
    return np.concatenate(order) if order else np.zeros(0, dtype=np.int64)
