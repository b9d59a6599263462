"""Plans the passes that share a recipe's budget together.

1. The passes that take the recipe's budget share it. Before the first of them runs, each is asked
   for its offer.
2. If some offer to narrow groups and others to rewrite layers, one plan of least damage decides on
   all offers. Else each meets the budget by itself, the first as far as it can.
3. The plan is carried out at the positions of these passes, those that narrow first: channels are
   named by the original layers. So the order in the recipe does not matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gfx.contract import Context, Outcome, Pass
from gfx.costs import cost_of
from gfx.errors import prefixed
from gfx.ir.program import Program
from gfx.pipeline.pass_context import named
from gfx.planning import Limits, Offer, decide_offers

__all__ = ["SharedBudget", "shared"]


@dataclass
class SharedBudget:
    """Holds the passes to run, by position, and the report of those planned together."""

    passes: dict[int, Pass]
    joint: tuple[Pass, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, Any] = field(default_factory=dict)

    def context(self, pass_: Pass, context: Context) -> Context:
        """Returns the context of a pass; a planned pass has its part, and no budget."""
        return replace(context.of(pass_), budgets=()) if self._has(pass_) else context.of(pass_)

    def add_plan(self, pass_: Pass, outcome: Outcome) -> None:
        """Adds the shared plan to the outcome of a pass that takes part in it."""
        if self._has(pass_):
            others = [one.name for one in self.joint if one is not pass_]
            outcome.details = {"planned_with": others, **self.details, **outcome.details}
            outcome.timings = {**self.timings, **outcome.timings}

    def _has(self, pass_: Pass) -> bool:
        return any(pass_ is one for one in self.joint)


def shared(
    program: Program, passes: Sequence[Pass], places: Sequence[int], context: Context
) -> SharedBudget:
    """Plans the passes at some positions together, if their offers combine (rule 2).

    Raises: BudgetError if all offers together do not meet the budget.
    """
    offers: dict[int, Offer] = {}
    for place in places:
        with named(passes[place], "offer"):
            passes[place].requires(program)
            offer = passes[place].offer(program, context.of(passes[place]))
        if offer is not None:
            offers[place] = offer
    alone = SharedBudget(dict(enumerate(passes)))
    if not (any(o.forms for o in offers.values()) and any(o.narrowed for o in offers.values())):
        return alone
    limits = Limits(context.budgets, context.meter)
    if limits.kept_by(program, cost_of(program)):
        return alone
    order = sorted(offers, key=lambda place: (offers[place].narrowed is None, place))
    by_kind = [offers[place] for place in order]
    with prefixed(" and ".join(dict.fromkeys(sorted(passes[place].name for place in offers)))):
        decision, details = decide_offers(
            program, by_kind, limits, data=context.data, seed=context.seed
        )
    resolved = [offer.resolve(decision) for offer in by_kind]  # rule 3
    given = dict(zip(sorted(offers), resolved, strict=True))
    return SharedBudget(
        {**dict(enumerate(passes)), **given}, tuple(resolved), details, decision.timings
    )
