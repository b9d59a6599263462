"""Resolves budgets into absolute limits: of MACs, parameters and bytes, and of milliseconds.

1. A fraction of a count is of what the program costs as it is.
2. A fraction of the latency is of what the original takes, as it was first measured.
3. Where a budget is on latency and no meter is given, it is measured on this machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gfx.costs import Budget, Cost, LatencyPredictor, LatencyTimer, Meter, cost_of, parse_budget
from gfx.coupling import Groups
from gfx.ir.program import Program

__all__ = ["Limits", "absolute", "resolve_limits"]


@dataclass(frozen=True)
class Limits:
    """Budgets with absolute limits, and what measures those on latency."""

    budgets: tuple[Budget, ...]
    meter: LatencyTimer | None = None  # None: no budget is on latency

    @property
    def timed(self) -> bool:
        """Whether a budget is on latency."""
        return any(budget.timed for budget in self.budgets)

    @property
    def requested(self) -> dict[str, float]:
        """What was asked for, by budget: a fraction of the latency, else the limit."""
        return {budget.name: budget.asked for budget in self.budgets}

    def kept_by(self, program: Program, cost: Cost) -> bool:
        """Whether a program keeps every budget as it is; latency is measured last.

        Raises: TimingError if the machine is too noisy to tell.
        """
        if self.meter is None:
            return all(budget.kept(cost) for budget in self.budgets)
        return self.meter.keeps(program, cost, self.budgets)

    def predictors(self, groups: Groups) -> dict[Budget, LatencyPredictor]:
        """Returns what predicts the latency that each budget on it limits."""
        timed = [budget for budget in self.budgets if budget.timed]
        assert self.meter is not None or not timed, "a budget on latency needs a meter"
        return {} if self.meter is None else {b: self.meter.predictor(groups, b) for b in timed}


def resolve_limits(
    asked: Mapping[str, Any] | None,
    program: Program,
    meter: Meter | None = None,
    others: Sequence[Budget] = (),
) -> Limits:
    """Returns the budgets that a recipe gives with absolute limits, and what measures them.

    Args:
        asked: the budget as the recipe has it.
        program: the one that the fractions are of; where its latency matters, it is copied.
        meter: measures programs; None: it is this machine that does.
        others: further budgets that will be measured, such as those of single passes.

    Raises: RecipeError if the budget says nothing gfx can check.

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
        from gfx.deploy.latency.machine_meter import (
            MachineMeter,  # heavy, and only these budgets need it
        )

        meter = MachineMeter()
    measures = LatencyTimer(meter, program.copy())
    return Limits(absolute(budgets, measures), measures)


def absolute(budgets: Sequence[Budget], meter: LatencyTimer | None) -> tuple[Budget, ...]:
    """Returns budgets with their limits in milliseconds where they are on latency (rule 2)."""
    return tuple(budgets) if meter is None else tuple(meter.resolve(each) for each in budgets)
