"""Finds the best plan that really keeps every budget, with latency as measured.

1. A method finds the best plan by predicted costs. The program that results is counted, and if that
   keeps every budget on counts, its latency is measured.
2. Where a limit is exceeded the next plan aims lower, where latency allows more, higher
   (gfx/search/aim.py).
3. Where no plan is predicted to keep a limit on latency, the fastest one is measured. If it keeps
   the limit, the predictions are too high, and the search goes on with limits that much higher.
"""

from collections.abc import Sequence
from typing import Protocol

from gfx.costs import Cost, cost_of
from gfx.ir.program import Program
from gfx.search.aim import ATTEMPTS, Aim
from gfx.search.budget_limits import Limits
from gfx.search.plan import Decision, Plan

__all__ = ["MeasuredSearch", "Method"]

_HAIR = 1e-9


class Method(Protocol):
    """Finds plans by their predicted costs."""

    def find(self, limits: Sequence[float]) -> Plan | None:
        """Returns the best plan predicted to be within limits, one for each budget; None if none.

        Further limits after those of the budgets are the method's own.
        """

    def predict(self, plan: Plan) -> Sequence[float]:
        """Returns the predicted costs of a plan, in the unit of each budget."""

    def fastest(self) -> Plan:
        """Returns the plan predicted to take the smallest share of any limit."""

    def build(self, plan: Plan, *, content: bool) -> Program:
        """Returns the program that results from a plan; without content it is counted, not run."""


class MeasuredSearch:
    """Searches with a method until the program that results keeps every budget."""

    def __init__(self, method: Method, limits: Limits, attempts: int = ATTEMPTS) -> None:
        self._method, self._limits = method, limits
        self._aim: Aim[Plan] = Aim(limits.budgets, method.find, self._values, attempts)
        self.tried: dict[Plan, Decision] = {}

    def best(self) -> Decision | None:
        """Returns the best plan that was tried; None if no plan that was found keeps the budgets.

        Raises: TimingError if the machine is too noisy to decide whether a limit is kept.
        """
        plan = self._aim.best()
        if plan is None and self._limits.timed:
            plan = self._from_fastest()
        if plan is None:
            if self._limits.meter is not None:
                self._limits.meter.blame_noise()
            return None
        return self.tried[plan]

    def least(self) -> list[float]:
        """Returns the costs of the fastest plan, in the unit of each budget, as far as measured."""
        return self._values(self._method.fastest())

    def _from_fastest(self) -> Plan | None:
        """Searches from the fastest plan on; None if even that exceeds a limit (rule 3)."""
        plan = self._method.fastest()
        values, predicted = self._values(plan), self._method.predict(plan)
        budgets = self._limits.budgets
        if any(v > b.limit for v, b in zip(values, budgets, strict=True)):
            return None
        start = [
            max(p * b.limit / v, p) * (1 + _HAIR) if b.timed and v else b.limit
            for p, v, b in zip(predicted, values, budgets, strict=True)
        ]
        return self._aim.best(start) or plan

    def _values(self, plan: Plan) -> list[float]:
        """Returns the costs of a plan, in the unit of each budget; 0 ms if it was not measured."""
        if plan not in self.tried:
            self.tried[plan] = self._try(plan)
        found = self.tried[plan]
        return [
            found.measured.get(b.name, 0.0) if b.timed else float(b.value(found.cost))
            for b in self._limits.budgets
        ]

    def _try(self, plan: Plan) -> Decision:
        """Counts a plan, and measures its latency if it keeps the other budgets (rule 1)."""
        cost: Cost = cost_of(self._method.build(plan, content=False))
        meter, budgets = self._limits.meter, self._limits.budgets
        timed = [budget for budget in budgets if budget.timed]
        if meter is None or not timed:
            return Decision(plan, cost)
        predicted = zip(budgets, self._method.predict(plan), strict=True)
        expected = {budget.name: value for budget, value in predicted if budget.timed}
        if not all(budget.kept(cost) for budget in budgets):
            return Decision(plan, cost, expected)
        small = self._method.build(plan, content=True)
        return Decision(plan, cost, expected, {b.name: meter.tried(small, b) for b in timed})
