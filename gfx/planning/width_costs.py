"""Prices a program at other widths of its groups, in the unit of each budget."""

from collections.abc import Mapping, Sequence

import numpy as np

from gfx.costs import Budget, Cost, LatencyPredictor, cost_of
from gfx.costs.symbolic import Pricing
from gfx.coupling import Groups
from gfx.planning.multiple_choice import Numbers, Plans

__all__ = ["WidthCosts"]


class WidthCosts:
    """Prices configurations of widths: counts in closed form, milliseconds by prediction.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> costs = WidthCosts(gfx.channels(program), [Budget(measure="params", limit=1)])
        >>> costs(costs.full[None]).tolist()
        [[62264.0]]
    """

    def __init__(
        self,
        groups: Groups,
        budgets: Sequence[Budget],
        times: Mapping[Budget, LatencyPredictor] | None = None,
        cost: Cost | None = None,
    ) -> None:
        """Prepares the prices of a program.

        Args:
            groups: of the program.
            budgets: the measures to price; their limits do not matter.
            times: the latency predictors, by budget.
            cost: of the unchanged program; None: it is counted.
        """
        self.pricing = Pricing(groups, cost or cost_of(groups.program))
        self._budgets, self._times = tuple(budgets), times or {}
        self.full = np.array([g.size for g in self.pricing.groups], dtype=np.int64)
        self.columns = {g.name: i for i, g in enumerate(self.pricing.groups)}  # by group name

    def __call__(self, widths: Plans) -> Numbers:
        """Prices widths. Shapes: (configurations, free groups) -> (configurations, budgets)."""
        values = [np.asarray(self._value(widths, b), dtype=np.float64) for b in self._budgets]
        return np.stack(values, axis=1)

    def _value(self, widths: Plans, budget: Budget) -> Numbers | Plans:
        times = self._times.get(budget)
        if times is not None:
            return times.predict(widths)
        return self.pricing.value(widths, budget)
