"""Resolves budgets into absolute limits: of MACs, parameters and bytes, and of milliseconds.

1. A fraction of a count refers to the cost of the program before the change.
2. A fraction of the latency refers to the latency of the original, as first measured.
3. For a budget on latency without a meter, this machine measures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gfx.costs import Budget, Cost, LatencyPredictor, LatencyTimer, Meter, cost_of, parse_budget
from gfx.coupling import Groups
from gfx.ir.program import Program

__all__ = ["Limits", "absolute", "resolve_limits"]


@dataclass(frozen=True)
class Limits:
    """Holds budgets with absolute limits, and the meter for those on latency."""

    budgets: tuple[Budget, ...]
    meter: LatencyTimer | None = None  # None: no budget is on latency

    @property
    def timed(self) -> bool:
        """Whether a budget is on latency."""
        return any(budget.timed for budget in self.budgets)

    @property
    def aims(self) -> tuple[Budget, ...]:
        """The budgets to aim at: limits in milliseconds are lower after a result was too slow."""
        share = 1.0 if self.meter is None else self.meter.share
        return tuple(replace(b, limit=b.limit * share) if b.timed else b for b in self.budgets)

    @property
    def requested(self) -> dict[str, float]:
        """Maps each budget to the requested value: a fraction of the latency, else the limit."""
        return {budget.name: budget.asked for budget in self.budgets}

    def kept_by(self, program: Program, cost: Cost) -> bool:
        """Whether a program keeps every budget; latency is measured last.

        Raises: TimingError if the machine is too noisy to decide.
        """
        if self.meter is None:
            return all(budget.kept(cost) for budget in self.budgets)
        return self.meter.keeps(program, cost, self.budgets)

    def predictors(self, groups: Groups) -> dict[Budget, LatencyPredictor]:
        """Returns the latency predictor of each budget on latency."""
        timed = [budget for budget in self.budgets if budget.timed]
        assert self.meter is not None or not timed, "a budget on latency needs a meter"
        return {} if self.meter is None else {b: self.meter.predictor(groups, b) for b in timed}


def resolve_limits(
    asked: Mapping[str, Any] | None,
    program: Program,
    meter: Meter | None = None,
    others: Sequence[Budget] = (),
) -> Limits:
    """Resolves the budgets of a recipe into absolute limits, with the meter that they need.

    Args:
        asked: the budget as the recipe has it.
        program: the program that fractions refer to; it is copied where its latency matters.
        meter: measures programs; None: this machine.
        others: further budgets that will be measured, such as those of single passes.

    Raises: RecipeError if the budget is none that gfx can check.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> [budget.limit for budget in resolve_limits({"params": 0.5}, program).budgets]
        [31132.0]
    """
    budgets = parse_budget(asked, cost_of(program)) if asked else ()
    if not any(budget.timed for budget in (*budgets, *others)):
        return Limits(budgets)
    if meter is None:
        # heavy, and only these budgets need it
        from gfx.deploy.latency.machine_meter import MachineMeter

        meter = MachineMeter()
    measures = LatencyTimer(meter, program.copy())
    return Limits(absolute(budgets, measures), measures)


def absolute(budgets: Sequence[Budget], meter: LatencyTimer | None) -> tuple[Budget, ...]:
    """Resolves limits on latency into milliseconds (rule 2)."""
    return tuple(budgets) if meter is None else tuple(meter.resolve(each) for each in budgets)
