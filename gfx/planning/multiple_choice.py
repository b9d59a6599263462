"""Solves the multiple-choice knapsack: one option of every choice, least damage at each cost.

Source   Sinha and Zoltners 1979, "The multiple-choice knapsack problem"; the sweep over lists of
         undominated states is that of Nemhauser and Ullmann 1969, applied choice by choice.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Numbers", "Plans", "Price", "knapsack", "undominated"]

Numbers = NDArray[np.float64]
Plans = NDArray[np.int64]  # (plans, choices): the number of the option taken
Price = Callable[[Plans], Numbers]  # (plans,) or (plans, measures)

_STATES = 2048  # undominated states to keep; beyond, the best in each of as many cost bins


def knapsack(
    damages: Sequence[Numbers], costs: Sequence[Numbers], states: int = _STATES
) -> tuple[Plans, Numbers, Numbers]:
    """Finds the plans that no other beats in both cost and damage, where both add up.

    They are the optima of every budget at once. The result is exact while at most `states` plans
    are undominated; beyond that, of plans whose costs differ by less than a `states`-th of the
    range the least damaging stays.

    Args:
        damages: of every choice, the damage of each option.
        costs: of every choice, the cost of each option; it may be negative, as a saving is.
        states: how many partial plans to keep.

    Returns: plans by ascending cost (plans, choices), their costs, and their damages.

    Example:
        >>> plans, costs, damages = knapsack([np.array([0.0, 1.0])] * 2, [np.array([5.0, 2.0])] * 2)
        >>> costs.tolist(), damages.tolist()
        ([4.0, 7.0, 10.0], [2.0, 1.0, 0.0])
    """
    cost, damage = np.zeros(1), np.zeros(1)
    taken: list[tuple[Any, Any]] = []  # of every state, its predecessor and the option
    for each, price in zip(damages, costs, strict=True):
        wide = (cost[:, None] + price).ravel()
        bad = (damage[:, None] + each).ravel()
        kept = _thinned(wide, bad, undominated(wide, bad), states)
        cost, damage = wide[kept], bad[kept]
        taken.append(np.divmod(kept, len(each)))
    plans: Plans = np.zeros((len(cost), len(damages)), dtype=np.int64)
    state = np.arange(len(cost))
    for place in reversed(range(len(damages))):
        origin, option = taken[place]
        plans[:, place] = option[state]
        state = origin[state]
    return plans, cost, damage


def undominated(cost: Numbers, damage: Numbers) -> NDArray[np.int64]:
    """Lists the entries that no other beats in both, by ascending cost; of equals the first.

    Example:
        >>> undominated(np.array([3.0, 1.0, 2.0]), np.array([0.0, 2.0, 2.0])).tolist()
        [1, 0]
    """
    order = np.lexsort((damage, cost))
    best = np.minimum.accumulate(damage[order])
    fresh = np.ones(len(order), dtype=np.bool_)
    fresh[1:] = best[1:] < best[:-1]
    return np.asarray(order[fresh])


def _thinned(
    cost: Numbers, damage: Numbers, kept: NDArray[np.int64], states: int
) -> NDArray[np.int64]:
    """Keeps the least damaging in each bin of costs, and both ends."""
    if len(kept) <= states:
        return kept
    low, high = cost[kept[0]], cost[kept[-1]]
    bins = ((cost[kept] - low) / (high - low) * (states - 1)).astype(np.int64)
    # the last of a bin: the most expensive does the least damage
    last = np.append(np.flatnonzero(np.diff(bins)), len(kept) - 1)
    return np.asarray(kept[np.union1d([0], last)])
