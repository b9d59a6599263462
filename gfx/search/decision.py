"""Makes the programs that plans are of.

Takes one option of every choice, so that budgets are met with the least damage.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from gfx.compression.factor import Form, refusal, skeleton
from gfx.compression.selection import weakest
from gfx.costs import Budget, Cost, Foreseen, LatencyTimer, cost_of
from gfx.coupling import Groups
from gfx.coupling.labels import Mask
from gfx.coupling.removal import narrowed
from gfx.errors import BudgetError
from gfx.ir.layers import Layer, layers_of
from gfx.ir.program import Program
from gfx.ir.rewrite import split
from gfx.search.aim import Aim
from gfx.search.choices import Choice, monotone
from gfx.search.pareto import Pareto
from gfx.search.plan_costs import Costs

__all__ = ["Decision", "decide", "removal", "rewritten"]


def removal(groups: Groups, widths: Mapping[str, int]) -> Mask:
    """Marks the weakest channels of some groups, so that as many stay as the widths say.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> int(removal(groups, {"project.conv": 20}).sum())
        12
    """
    removed = groups.none_removed()
    for name, width in widths.items():
        removed |= weakest(groups, groups[name], width / groups[name].size)
    return removed


def rewritten(
    groups: Groups, forms: Mapping[str, Form], widths: Mapping[str, int], *, content: bool = False
) -> Program:
    """Makes a program with other forms and widths, to count it or time it.

    What it computes means nothing: of narrowed groups the last channels go, and other forms have
    weights as torch draws them; without content, there are shapes alone.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> small = rewritten(groups, {"to_rgb": Form()}, {"project.conv": 20})
        >>> small.tensor("to_rgb.depthwise.weight").shape, small.tensor("project.conv.weight").shape
        (torch.Size([4, 1, 4, 4]), torch.Size([100, 20, 4, 4]))
    """
    small = narrowed(groups.flow, widths, content=content)
    with torch.random.fork_rng(devices=[]):  # whoever draws next draws the same
        for layer in layers_of(small):
            form = forms.get(layer.path)
            if form is not None and not refusal(layer.module, form):
                device = layer.convolution.weight.device
                split(small, layer.path, skeleton(layer.convolution, form, device))
    small.recompile()
    return small


_HAIR = 1e-9

Plan = tuple[int, ...]  # of every choice, the number of the option


@dataclass(frozen=True)
class Decision:
    """What is done about each layer and group; what is left as it is, is not listed."""

    forms: Mapping[str, Form]  # by layer
    widths: Mapping[str, int]  # by group
    damage: float  # the sum of those of the options taken
    cost: Cost  # of the program that it gives
    foreseen: Mapping[str, float] = field(default_factory=dict)  # by budget on latency: ms
    measured: Mapping[str, float] = field(default_factory=dict)  # the same, of what it gives


def decide(
    groups: Groups,
    layers: Sequence[Layer],
    choices: Sequence[Choice],
    budgets: Sequence[Budget],
    stopwatch: LatencyTimer | None = None,
    who: str = "decompose",
) -> Decision:
    """Finds the options of least total damage that meet every budget.

    A choice is of kind layer, with Forms as values, or of kind group, with widths: as many of the
    channels stay as the width says, the weakest go. Damages must be of a kind that adds up; what
    they are of, such as squared relative errors, is the caller's.

    What a latency is foreseen to be decides which plan is tried; the clock decides whether it does.

    Args:
        groups: of the program.
        layers: of the program.
        choices: the options of some of the layers and groups.
        budgets: what must be kept.
        stopwatch: measures, where a budget is on latency.
        who: begins messages.

    Raises: BudgetError that tells what is the least that can be reached, and what is in the way;
    TimingError if the machine is too noisy to tell whether a latency is kept.

    Example:
        >>> import gfx
        >>> from gfx.ir.layers import layers_of
        >>> from gfx.search import Option
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> options = (Option(None, 0.0), Option(16, 0.1), Option(8, 0.4))
        >>> choices = [Choice(name, options, "group") for name in ("project.conv", "up.0.conv")]
        >>> limit = Budget(measure="params", limit=50_000)
        >>> decide(gfx.channels(program), layers_of(program), choices, [limit]).widths
        {'project.conv': 16}
    """
    return _Deciding(groups, layers, choices, budgets, stopwatch, who).decision()


class _Deciding:
    """Looks for the plan that really keeps every budget."""

    def __init__(
        self,
        groups: Groups,
        layers: Sequence[Layer],
        choices: Sequence[Choice],
        budgets: Sequence[Budget],
        stopwatch: LatencyTimer | None,
        who: str,
    ) -> None:
        self.groups, self.budgets, self.who = groups, tuple(budgets), who
        self.stopwatch = stopwatch
        self.times = _foreseen(groups, budgets, stopwatch)
        measures = (*budgets, *_guides(budgets))
        left = monotone(choices, Costs(groups, layers, choices, measures, self.times))
        self.costs = Costs(groups, layers, left, measures, self.times)
        self.frontier = Pareto(left, self.costs)
        self._guided = [math.inf] * (len(measures) - len(budgets))
        self._tried: dict[Plan, Decision] = {}

    def decision(self) -> Decision:
        """Returns the best decision (gfx/search/aim.py)."""
        aim = Aim(self.budgets, self._found, self._cost)
        plan = aim.best()
        if plan is None and self.times:
            plan = aim.best(self._reached())  # more may be kept than was foreseen
        if plan is None:
            if self.stopwatch is not None:
                self.stopwatch.blame_noise()
            raise self._out_of_reach()
        return self._tried[plan]

    def _found(self, limits: Sequence[float]) -> Plan | None:
        return self.frontier.best([*limits, *self._guided])

    def _cost(self, plan: Plan) -> list[float]:
        """Builds what a plan gives, counts it, and if that is kept measures it."""
        decision = self._taken(plan)
        kept = all(budget.kept(decision.cost) for budget in self.budgets)
        measured: dict[Budget, float] = {}
        if kept and self.times and self.stopwatch is not None:
            small = rewritten(self.groups, decision.forms, decision.widths, content=True)
            measured = {b: self.stopwatch.tried(small, b) for b in self.times}
        told = {budget.name: ms for budget, ms in measured.items()}
        self._tried[plan] = replace(decision, measured=told)
        return [
            measured.get(b, 0.0) if b.timed else float(b.value(decision.cost)) for b in self.budgets
        ]

    def _taken(self, plan: Plan) -> Decision:
        """Says what a plan does, and counts what it gives."""
        choices = self.frontier.choices
        taken = [c.options[i] for c, i in zip(choices, plan, strict=True)]
        values = {(c.kind, c.name): o.value for c, o in zip(choices, taken, strict=True) if o.value}
        forms = {name: value for (kind, name), value in values.items() if kind == "layer"}
        widths = {name: value for (kind, name), value in values.items() if kind == "group"}
        prices = self.costs(np.array([plan], dtype=np.int64))[0].tolist()
        told = {b.name: p for b, p in zip(self.budgets, prices, strict=False) if b.timed}
        damage = sum(option.damage for option in taken)
        cost = cost_of(rewritten(self.groups, forms, widths))
        return Decision(forms, widths, damage, cost, told)

    def _reached(self) -> list[float] | None:
        """Measures the fastest plan; returns limits as much higher as the clock says they may be.

        None if even that plan takes too long.
        """
        plan = self._fastest()
        prices = self.costs(np.array([plan], dtype=np.int64))[0].tolist()
        values = self._cost(plan)
        if any(v > b.limit for v, b in zip(values, self.budgets, strict=True)):
            return None
        return [
            p * b.limit / v * (1 + _HAIR) if b.timed else b.limit
            for p, v, b in zip(prices, values, self.budgets, strict=False)
        ]

    def _fastest(self) -> Plan:
        """Returns the plan that is foreseen to take the smallest share of any budget."""
        limits = np.array([budget.limit for budget in self.budgets])
        shares = (self.frontier.prices[:, : len(limits)] / limits).max(axis=1)
        return tuple(self.frontier.plans[int(shares.argmin())].tolist())

    def _out_of_reach(self) -> BudgetError:
        least = self.frontier.least()[: len(self.budgets)].tolist()
        for place, budget in enumerate(self.budgets):
            known = [d.measured.get(budget.name, math.inf) for d in self._tried.values()]
            if budget.timed and min(known, default=math.inf) < math.inf:
                least[place] = min(known)
        shares = [value / b.limit for value, b in zip(least, self.budgets, strict=True)]
        at = shares.index(max(shares))
        budget, value = self.budgets[at], float(least[at])
        over = f", {budget.said(value - budget.limit)} too much" if value > budget.limit else ""
        over = over or ", but not together with the other limits"
        reasons = dict.fromkeys(f"{g.name}: {g.pinned}" for g in self.groups if g.pinned)
        return BudgetError(
            f"{self.who}: the budget on {budget.name} is {budget.said(budget.limit)}, and the "
            f"least that the options of {len(self.frontier.choices)} layers and groups reach is "
            f"{budget.said(value)}{over}; raise the budget, or allow smaller shares and ranks. "
            f"What stands in the way: {'; '.join(list(reasons)[:4]) or 'nothing is pinned'}"
        )


def _foreseen(
    groups: Groups, budgets: Sequence[Budget], stopwatch: LatencyTimer | None
) -> dict[Budget, Foreseen]:
    """Returns what foresees each latency."""
    timed = [budget for budget in budgets if budget.timed]
    assert stopwatch is not None or not timed, "a latency is measured by a stopwatch"
    return {b: stopwatch.foresee(groups, b) for b in timed} if stopwatch is not None else {}


def _guides(budgets: Sequence[Budget]) -> tuple[Budget, ...]:
    """Lists further measures to search along where one change alone often lowers none.

    The peak of memory is the largest of many places.
    """
    if all(budget.measure != "peak_activation_bytes" for budget in budgets):
        return ()
    return Budget(limit=1), Budget(measure="params", limit=1)
