"""Finds the best plan that really keeps every budget, with latency as measured.

1. A method finds the best plan by predicted costs. The program that results is counted, and if that
   keeps every budget on counts, its latency is measured.
2. Where a limit is exceeded the next plan aims lower, where latency allows more, higher
   (gfx/planning/aim.py).
3. Where no plan is found that keeps a limit on latency, the smallest ones are built and measured,
   twice if need be: other load only ever adds time. If one keeps the limit, the predictions are too
   high, and the search goes on with limits that much higher.
4. Predictions may be wrong for some options only, such as other forms of layers. So before a budget
   is refused, the search is repeated without them (`simpler`).
5. When the time is over (gfx/progress/deadline.py), the best plan so far is the result.
6. After a result was measured above a limit, the next search aims at a lower one. The smallest plan
   is held to the limit itself.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from gfx.costs import Budget, Cost, cost_of
from gfx.errors import BudgetError
from gfx.ir.program import Program
from gfx.planning.aim import ATTEMPTS, Aim
from gfx.planning.budget_limits import Limits
from gfx.planning.plan import Decision, Plan
from gfx.progress import current_deadline, out_of_time, stage, stopped

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

    def smallest(self) -> Sequence[Plan]:
        """Lists the plans to measure before a budget is refused, the likeliest to keep it first."""

    def simpler(self) -> "Method | None":
        """Returns a method without the options that are hardest to predict; None if it has none."""

    def build(self, plan: Plan, *, content: bool) -> Program:
        """Returns the program that results from a plan; without content it is counted, not run."""


class MeasuredSearch:
    """Searches with a method until the program that results keeps every budget."""

    def __init__(self, method: Method, limits: Limits, attempts: int = ATTEMPTS) -> None:
        self._method, self._limits, self._attempts = method, limits, attempts
        self.tried: dict[Plan, Decision] = {}

    def best(self) -> Decision | None:
        """Returns the best plan that was tried; None if no plan that was found keeps the budgets.

        Raises: TimingError if the machine is too noisy to decide whether a limit is kept.
        """
        method: Method | None = self._method
        spare: Plan | None = None  # a smallest one that keeps the budgets
        while method is not None:
            search = _WithMethod(method, self)
            plan = search.best()
            if plan is not None:
                return self.tried[plan]
            spare = spare or search.spare
            method = method.simpler() if self._limits.timed else None
        if spare is not None:
            return self.tried[spare]
        if self._limits.meter is not None:
            self._limits.meter.blame_noise()
        return None

    def least(self, plan: Plan) -> list[float]:
        """Returns the costs of a plan, in the unit of each budget, as far as measured."""
        return self.values(plan)

    def refusal(self, error: BudgetError) -> BudgetError:
        """Returns the error to raise where nothing was found: another one if the time was over."""
        deadline, found = current_deadline(), self._nearest()
        if deadline is None or not deadline.passed or found is None:
            return error
        budget, value = found
        return BudgetError(
            f"the search was stopped after {deadline.seconds:g} s, and of the {len(self.tried)} "
            f"plans that were tried by then none keeps the budget on {budget.name}, "
            f"{budget.said(budget.limit)}: the best so far takes {budget.said(value)}, "
            f"{budget.said(value - budget.limit)} too much; give it more time than "
            f"{deadline.seconds:g} s, or raise the budget"
        )

    def _nearest(self) -> tuple[Budget, float] | None:
        """Returns the budget that the best plan so far exceeds most, and its value."""
        budgets = self._limits.budgets
        rows = [list(zip(budgets, self.values(plan), strict=True)) for plan in self.tried]
        most = [max(row, key=lambda pair: pair[1] / pair[0].limit) for row in rows]
        over = [(budget, value) for budget, value in most if value > budget.limit]
        return min(over, key=lambda pair: pair[1] / pair[0].limit, default=None)

    def values(self, plan: Plan, predict: Method | None = None) -> list[float]:
        """Returns the costs of a plan, in the unit of each budget; 0 ms if it was not measured."""
        if plan not in self.tried:
            self.tried[plan] = self._try(plan, predict or self._method)
        found = self.tried[plan]
        return [
            found.measured.get(b.name, 0.0) if b.timed else float(b.value(found.cost))
            for b in self._limits.budgets
        ]

    def again(self, plan: Plan) -> list[float]:
        """Measures a plan that exceeds a limit once more, and returns its costs (rule 3)."""
        found, meter = self.tried[plan], self._limits.meter
        if meter is None or not found.measured:
            return self.values(plan)
        small = self._method.build(plan, content=True)
        timed = [budget for budget in self._limits.budgets if budget.timed]
        times = {b.name: min(found.measured[b.name], meter.tried(small, b)) for b in timed}
        self.tried[plan] = replace(found, measured=times)
        return self.values(plan)

    def _try(self, plan: Plan, method: Method) -> Decision:
        """Counts a plan, and measures its latency if it keeps the other budgets (rule 1)."""
        cost: Cost = cost_of(method.build(plan, content=False))
        meter, budgets = self._limits.meter, self._limits.budgets
        timed = [budget for budget in budgets if budget.timed]
        if meter is None or not timed:
            return Decision(plan, cost)
        predicted = zip(budgets, method.predict(plan), strict=True)
        expected = {budget.name: value for budget, value in predicted if budget.timed}
        if not all(budget.kept(cost) for budget in budgets):
            return Decision(plan, cost, expected)
        stage("building a plan")
        small = method.build(plan, content=True)
        stage("measuring a plan")
        return Decision(plan, cost, expected, {b.name: meter.tried(small, b) for b in timed})


class _WithMethod:
    """Searches with one method."""

    def __init__(self, method: Method, search: MeasuredSearch) -> None:
        self._method, self._search = method, search
        self._budgets, self._aims = search._limits.budgets, search._limits.aims
        self.spare: Plan | None = None  # the smallest plan, where it keeps the budgets

    def best(self) -> Plan | None:
        """Returns the best plan that keeps the budgets; None if none is found."""
        plan = self._aimed(None)
        return self._from_smallest() if plan is None and self._search._limits.timed else plan

    def _aimed(self, start: list[float] | None) -> Plan | None:
        aim = Aim(self._aims, self._method.find, self._values, self._search._attempts)
        return aim.best(start)

    def _from_smallest(self) -> Plan | None:
        """Searches from the smallest plan on; None if it finds none that does more (rule 3)."""
        for number, plan in enumerate(self._method.smallest()):
            if number and out_of_time():
                stopped("not every small plan was measured")
                return None
            values = self._values(plan)
            if self._over(values):
                values = self._search.again(plan)
            if not self._over(values):
                self.spare = plan
                return self._aimed(self._raised(plan, values))
        return None

    def _raised(self, plan: Plan, values: Sequence[float]) -> list[float]:
        """Returns the limits to aim at where a plan is predicted to take more than it does."""
        predicted = self._method.predict(plan)
        return [
            max(p * b.limit / v, p) * (1 + _HAIR) if b.timed and v else b.limit
            for p, v, b in zip(predicted, values, self._aims, strict=True)
        ]

    def _over(self, values: Sequence[float]) -> bool:
        return any(v > b.limit for v, b in zip(values, self._budgets, strict=True))

    def _values(self, plan: Plan) -> list[float]:
        return self._search.values(plan, self._method)
