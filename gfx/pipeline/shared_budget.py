"""Plans the passes that share a recipe's budget together.

1. Passes that were given the recipe's budget, each with nothing said but that, share it. When the
   first of them is due, each is asked what it may do.
2. If some offer to narrow groups and others to write layers another way, all of it is decided at
   once, for the least damage. Else each meets the budget by itself, the first as far as it can.
3. What was planned is carried out at the places of these passes, those that narrow first: channels
   are told by the layers as they were. So the order of the recipe does not matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gfx.contract import Outcome, Pass
from gfx.costs import Budget, LatencyTimer, cost_of
from gfx.ir.program import Program
from gfx.search import Offer, together

__all__ = ["SharedPlan", "shared"]


@dataclass
class SharedPlan:
    """The passes as they run, by their places, and what is told of those planned together."""

    passes: dict[int, Pass]
    joint: tuple[Pass, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, Any] = field(default_factory=dict)

    def tell(self, pass_: Pass, outcome: Outcome) -> None:
        """Adds what was planned to what a pass tells, if it was one of those."""
        if any(pass_ is one for one in self.joint):
            others = [one.name for one in self.joint if one is not pass_]
            outcome.details = {"planned_with": others, **self.details, **outcome.details}
            outcome.timings = {**self.timings, **outcome.timings}


def shared(
    program: Program, passes: Sequence[Pass], places: Sequence[int], data: Any, seed: int
) -> SharedPlan:
    """Plans the passes at some places together, if their offers go together (rule 2).

    Raises: BudgetError if all that they offer does not meet the budget.
    """
    offers: dict[int, Offer] = {}
    for place in places:
        passes[place].requires(program)
        offer = passes[place].offer(program, data)
        if offer is not None:
            offers[place] = offer
    alone = SharedPlan(dict(enumerate(passes)))
    if not (any(o.forms for o in offers.values()) and any(o.narrowed for o in offers.values())):
        return alone
    budgets: tuple[Budget, ...] = getattr(passes[min(offers)], "budget")  # noqa: B009 - not of Pass
    watch: LatencyTimer | None = program.stopwatch
    cost = cost_of(program)
    if all(b.kept(cost) for b in budgets) and (not watch or watch.keeps(program, cost, budgets)):
        return alone
    names = " and ".join(dict.fromkeys(sorted(passes[place].name for place in offers)))
    order = sorted(offers, key=lambda place: (offers[place].narrowed is None, place))
    decision, note = together(
        program,
        [offers[place] for place in order],
        budgets,
        data=data,
        seed=seed,
        stopwatch=watch,
        who=names,
    )
    settled = [offers[place].settle(decision) for place in order]  # rule 3
    details = {
        "requested": {b.name: b.asked for b in budgets},
        "achieved": {b.name: b.value(decision.cost) for b in budgets if not b.timed},
        "damage": decision.damage**0.5,
        **({"inputs": note} if note else {}),
    }
    timings = {"foreseen": dict(decision.foreseen), "measured": dict(decision.measured)}
    given = dict(zip(sorted(offers), settled, strict=True))
    return SharedPlan(
        {**dict(enumerate(passes)), **given},
        tuple(settled),
        details,
        timings if decision.measured else {},
    )
