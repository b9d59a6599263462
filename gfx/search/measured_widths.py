"""Chooses widths so that budgets on latency are really kept.

1. Widths are chosen by the milliseconds that are foreseen, in steps of `round_to` channels and in
   coarser ones, up to 16: processors compute several channels at a time, and one more may cost as
   much as eight. Of what fits, that is taken which leaves the most channels.
2. What is chosen is built and measured. If it takes too long, the next search aims as much lower;
   if the time allows more, as much higher (gfx/search/aim.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gfx.compression.selection import Selection
from gfx.costs import Budget, Cost, Foreseen, LatencyTimer, cost_of
from gfx.costs.symbolic import Pricing
from gfx.coupling import analyse
from gfx.coupling.labels import Ids, Mask
from gfx.coupling.removal import remove
from gfx.errors import BudgetError
from gfx.ir.program import Program
from gfx.search.aim import Aim
from gfx.search.widths import WidthSearch

__all__ = ["MeasuredWidths"]

_STEPS = (1, 2, 4, 8, 16)
_COARSEST = 16  # channels
_HAIR = 1e-9
_ANY = 1.0  # tolerance: no clock tells whether a result is as near as a count could be

Kept = tuple[int, ...]


@dataclass
class MeasuredWidths:
    """Searches widths of which the clock says that they keep every budget."""

    selection: Selection
    budgets: Sequence[Budget]
    cost: Cost  # of the program as it is
    stopwatch: LatencyTimer
    foreseen: dict[str, float] = field(default_factory=dict)  # by budget, of the result: ms
    measured: dict[str, float] = field(default_factory=dict)  # the same, by the clock

    def __post_init__(self) -> None:
        groups = self.selection.groups
        self._pricing = Pricing(groups, self.cost)
        self._times: Mapping[str, Foreseen] = {
            b.name: self.stopwatch.foresee(groups, b) for b in self.budgets if b.timed
        }
        self._values: dict[Kept, list[float]] = {}

    def removed(self) -> Mask:
        """Returns what goes.

        Raises: BudgetError with the least that can be reached, as measured, and what stands in the
        way; TimingError if the machine is too noisy to tell whether a limit is kept.
        """
        aim = Aim(self.budgets, self._found, self._true)
        kept = aim.best()
        if kept is None:
            least = self._least()
            true = self._true(least)
            if any(v > b.limit for v, b in zip(true, self.budgets, strict=True)):
                self.stopwatch.blame_noise()
                raise self._search(self.budgets).out_of_reach(np.array(least), true)
            kept = aim.best(self._reached(least)) or least
        names = [budget.name for budget in self.budgets if budget.timed]
        values = dict(zip([b.name for b in self.budgets], self._values[kept], strict=True))
        guessed = self._search(self.budgets).values(np.array([kept]))[0].tolist()
        told = dict(zip([b.name for b in self.budgets], guessed, strict=True))
        self.measured = {name: values[name] for name in names}
        self.foreseen = {name: told[name] for name in names}
        return self.selection.by_counts(np.array(kept, dtype=np.int64))

    def _search(self, budgets: Sequence[Budget], step: int = 1) -> WidthSearch:
        own = self.selection
        bounds = replace(own.bounds, round_to=own.bounds.round_to * step)
        return WidthSearch(own.groups, own.among, self._pricing, budgets, bounds, _ANY, self._times)

    def _found(self, limits: Sequence[float]) -> Kept | None:
        """Returns the most channels that are foreseen to keep some limits (rule 1)."""
        budgets = [replace(b, limit=limit) for b, limit in zip(self.budgets, limits, strict=True)]
        found: list[Ids] = []
        for step in _STEPS:
            if step > 1 and self.selection.bounds.round_to * step > _COARSEST:
                continue
            try:
                found.append(self.selection.along(self._search(budgets, step)))
            except BudgetError:  # not in these steps; whoever finds none in any, tells
                continue
        if not found:
            return None
        best = max(found, key=lambda kept: float((kept / self.selection.sizes).sum()))
        return tuple(best.tolist())

    def _true(self, kept: Kept) -> list[float]:
        """Builds the narrowed program, counts it, and if that is kept measures it (rule 2)."""
        if kept not in self._values:
            small = self._narrowed(kept)
            cost = cost_of(small)
            met = all(budget.kept(cost) for budget in self.budgets)
            self._values[kept] = [self._value(small, cost, budget, met) for budget in self.budgets]
        return self._values[kept]

    def _value(self, small: Program, cost: Cost, budget: Budget, met: bool) -> float:
        if not budget.timed:
            return float(budget.value(cost))
        return self.stopwatch.tried(small, budget) if met else 0.0

    def _narrowed(self, kept: Kept) -> Program:
        flow = self.selection.groups.flow
        small = flow.program.copy()
        own = analyse(small, attention=flow.attention, group_norm=flow.group_norm)
        remove(small, own, self.selection.by_counts(np.array(kept, dtype=np.int64)))
        return small

    def _least(self) -> Kept:
        selection = self.selection
        return tuple(selection.bounds.least(selection.sizes).tolist())

    def _reached(self, least: Kept) -> list[float]:
        """Returns limits as much higher as the clock allows the narrowest program."""
        guessed = self._search(self.budgets).values(np.array([least]))[0].tolist()
        true = self._true(least)
        return [
            max(g * b.limit / t, g) * (1 + _HAIR) if b.timed and t else b.limit
            for g, t, b in zip(guessed, true, self.budgets, strict=True)
        ]
