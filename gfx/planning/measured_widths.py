"""Plans widths that meet every budget, in the order of importance.

1. Without a budget on latency prices are exact, and the first widths that are found are the result.
2. With one, widths are searched by the predicted milliseconds, in steps of `round_to` channels and
   in coarser ones, up to 16: processors compute several channels at a time, and one more may cost
   as much as eight. Of the widths that fit, those with the most channels are taken, built and
   measured, and the next search aims lower or higher (gfx/planning/measured_search.py).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gfx.compression.selection import Selection
from gfx.costs import Budget, cost_of
from gfx.coupling.labels import Ids
from gfx.errors import BudgetError
from gfx.ir.program import Program
from gfx.planning.budget_limits import Limits
from gfx.planning.measured_search import MeasuredSearch
from gfx.planning.plan import Plan, rewritten
from gfx.planning.width_costs import WidthCosts
from gfx.planning.width_search import WidthSearch
from gfx.progress import part_of_time

__all__ = ["plan_widths"]

_STEPS = (1, 2, 4, 8, 16)
_COARSEST = 16  # channels
_VECTORS = (8, 16)  # channels that processors compute at a time
_BEFORE_PLANS = 0.6  # share of the time for predicting what widths take; the rest is to try some
_ANY = 1.0  # tolerance: noise is larger than the difference to a nearer result


def plan_widths(
    selection: Selection, limits: Limits, tolerance: float
) -> tuple[Plan, dict[str, Any]]:
    """Removes the fewest channels that meet every budget, in the order of importance.

    Args:
        selection: the groups that may be narrowed, and the order of their channels.
        limits: the limits to keep.
        tolerance: how far below every budget the result may end; not applied to a latency.

    Returns: the plan, and the latencies for the report, if any was measured.

    Raises: BudgetError with the nearest value that can be reached, and what prevents a nearer one;
    TimingError if the machine is too noisy to decide whether a limit is kept.
    """
    groups = selection.groups
    cost = cost_of(groups.program)
    if limits.kept_by(groups.program, cost):
        return Plan(), {}
    with part_of_time(_BEFORE_PLANS):
        predictors = limits.predictors(groups)
    costs = WidthCosts(groups, limits.budgets, predictors, cost)
    if not limits.timed:
        search = WidthSearch(selection, costs, limits.budgets, selection.bounds, tolerance)
        return _plan(selection, search.kept()), {}
    method = _Widths(selection, costs, limits)
    measured = MeasuredSearch(method, limits)
    found = measured.best()
    if found is None:
        least = method.least()
        values = measured.least(_plan(selection, least))
        raise measured.refusal(method.search(limits.budgets).out_of_reach(least, values))
    return found.plan, found.timings


class _Widths:
    """Finds widths by their predicted latency (rule 2)."""

    def __init__(self, selection: Selection, costs: WidthCosts, limits: Limits) -> None:
        self._selection, self._costs, self._budgets = selection, costs, limits.budgets

    def find(self, limits: Sequence[float]) -> Plan | None:
        """Returns the plan with the most channels that is predicted to keep some limits."""
        budgets = [replace(b, limit=limit) for b, limit in zip(self._budgets, limits, strict=True)]
        found: list[Ids] = []
        for step in _STEPS:
            if step > 1 and self._selection.bounds.round_to * step > _COARSEST:
                continue
            try:
                found.append(self.search(budgets, step).kept())
            except BudgetError:  # not in these steps; a caller that finds none in any step raises
                continue
        if not found:
            return None
        best = max(found, key=lambda kept: float((kept / self._selection.sizes).sum()))
        return _plan(self._selection, best)

    def predict(self, plan: Plan) -> list[float]:
        """Returns the predicted costs of a plan, in the unit of each budget."""
        kept = [plan.widths.get(group.name, group.size) for group in self._selection.among]
        values = self.search(self._budgets).values(np.array([kept], dtype=np.int64))[0]
        return [float(value) for value in values]

    def smallest(self) -> list[Plan]:
        """Lists the plan with every group at its smallest width, and those in coarser steps.

        Processors may be faster at 8 channels than at 1.
        """
        selection = self._selection
        bounds = [replace(selection.bounds, round_to=step) for step in _VECTORS]
        steps = [each.of(selection.among).rounded(self.least()) for each in bounds]
        plans = [_plan(selection, kept) for kept in (self.least(), *steps)]
        return list(dict.fromkeys(plans))

    def simpler(self) -> None:
        """Returns nothing: all options are widths."""

    def build(self, plan: Plan, *, content: bool) -> Program:
        """Returns the program that results from a plan."""
        return rewritten(self._selection.groups, plan, content=content)

    def least(self) -> Ids:
        """Returns the fewest channels that each group may keep."""
        return self._selection.limits.least

    def search(self, budgets: Sequence[Budget], step: int = 1) -> WidthSearch:
        """Returns a search in steps that are `step` times coarser."""
        bounds = self._selection.bounds
        bounds = replace(bounds, round_to=bounds.round_to * step)
        return WidthSearch(self._selection, self._costs, budgets, bounds, _ANY)


def _plan(selection: Selection, kept: Ids) -> Plan:
    """Returns the plan that keeps `kept` channels of each group."""
    pairs = zip(selection.among, kept.tolist(), strict=True)
    return Plan(widths={group.name: count for group, count in pairs if count < group.size})
