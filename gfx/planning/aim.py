"""Adjusts the limits of a search until the measured cost of its plan keeps the budgets.

A plan is chosen by its predicted cost. Where it really costs more, the next search aims lower by
the ratio; where its measured latency is far below the limit, higher. A margin below every limit in
milliseconds allows for noise: two readings of one program differ.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from gfx.costs import Budget
from gfx.progress import each, out_of_time, stopped

__all__ = ["ATTEMPTS", "Aim"]

T = TypeVar("T", bound=Hashable)
Values = Sequence[float]

ATTEMPTS = 6  # plans to try
_MARGIN = 0.04  # share of a limit in milliseconds to leave free
_NEAR = 0.04  # share below a limit in milliseconds at which the search ends
_HAIR = 1e-9


class Aim(Generic[T]):
    """Searches for the plan of least damage that really keeps every budget.

    Example:
        >>> budget = Budget(measure="latency", limit=40)  # it takes twice the prediction
        >>> aim = Aim([budget], find=lambda limits: int(limits[0]), cost=lambda plan: [2.0 * plan])
        >>> aim.best()
        19
    """

    def __init__(
        self,
        budgets: Sequence[Budget],
        find: Callable[[list[float]], T | None],
        cost: Callable[[T], Values],
        attempts: int = ATTEMPTS,
    ) -> None:
        """Prepares a search.

        Args:
            budgets: the budgets to keep.
            find: returns the best plan predicted to be within some limits, None if there is none.
            cost: returns the real cost of a plan, in the unit of each budget.
            attempts: how many plans to try.
        """
        self.budgets = tuple(budgets)
        self._find, self._cost, self._attempts = find, cost, attempts
        self._aims = [1.0] * len(budgets)  # shares of the limits to aim at
        self._below = [0.0] * len(budgets)  # the highest known to be kept
        self._above = [float("inf")] * len(budgets)  # the lowest known to be too much

    def best(self, start: Values | None = None) -> T | None:
        """Returns the best plan of those tried; None if no plan that was found keeps the budgets.

        Once the time is over, the best so far is the best; one plan is tried in any case.

        Args:
            start: limits to aim at first, instead of the budgets' own.
        """
        limits = [b.limit for b in self.budgets]
        if start is not None:
            self._aims = [s / limit for s, limit in zip(start, limits, strict=True)]
        best: T | None = None
        spare: T | None = None  # keeps the budgets, but only just
        for number in each(range(self._attempts), "trying plans"):
            if number and out_of_time():
                stopped(f"{number} of up to {self._attempts} plans were tried")
                break
            aimed = zip(self._aims, limits, strict=True)
            plan = self._find([aim * limit for aim, limit in aimed])
            if plan is None or plan == best:
                break
            values = self._cost(plan)
            if all(v <= limit for v, limit in zip(values, limits, strict=True)):
                spare = plan if spare is None else spare
            shares = self._shares(values)
            if max(shares, default=0) > 1:
                self._lower(shares)
                continue
            best, self._below = plan, [*self._aims]
            if not self._raise(shares):
                break
        return spare if best is None else best

    def _shares(self, values: Values) -> list[float]:
        """Returns values as shares of the limits less their margin."""
        left = [b.limit * (1 - _MARGIN) if b.timed else b.limit for b in self.budgets]
        return [value / each for value, each in zip(values, left, strict=True)]

    def _lower(self, shares: Values) -> None:
        for place, share in enumerate(shares):
            if share > 1:
                self._above[place] = min(self._above[place], self._aims[place])
                lower = self._aims[place] * (1 - _HAIR) / share
                self._aims[place] = max(lower, self._below[place])

    def _raise(self, shares: Values) -> bool:
        """Raises the limits to aim at; returns whether there is room for it."""
        timed = [place for place, budget in enumerate(self.budgets) if budget.timed]
        if all(shares[place] >= 1 - _NEAR for place in timed):
            return False
        for place in timed:
            raised = self._aims[place] * (1 - _NEAR / 4) / shares[place]
            between = (self._aims[place] + self._above[place]) / 2
            self._aims[place] = max(min(raised, between), self._aims[place])
        return True
