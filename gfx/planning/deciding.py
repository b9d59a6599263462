"""Takes one option of every choice, so that budgets are met with the least damage."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from gfx.costing import Budget, Cost, cost_of, human
from gfx.coupling import Groups, analyse
from gfx.coupling.labels import Mask
from gfx.edit import remove, split
from gfx.errors import BudgetError
from gfx.factoring import Form, refusal, skeleton
from gfx.modules import without_content
from gfx.planning.costs import Costs
from gfx.planning.frontier import Frontier
from gfx.planning.layers import Layer, layers_of
from gfx.planning.options import Choice, monotone
from gfx.probing import weakest

__all__ = ["Decision", "decide", "removal"]

_ATTEMPTS = 6  # with limits lowered by what the true cost is over


@dataclass(frozen=True)
class Decision:
    """What is done about each layer and group; what is left as it is, is not listed."""

    forms: Mapping[str, Form]  # by layer
    widths: Mapping[str, int]  # by group
    damage: float  # the sum of those of the options taken
    cost: Cost  # of the program that it gives


def decide(
    groups: Groups, layers: Sequence[Layer], choices: Sequence[Choice], budgets: Sequence[Budget]
) -> Decision:
    """Finds the options of least total damage that meet every budget.

    A choice is of kind layer, with Forms as values, or of kind group, with widths: as many of the
    channels stay as the width says, the weakest go. Damages must be of a kind that adds up; what
    they are of, such as squared relative errors, is the caller's.

    Raises: BudgetError that tells what is the least that can be reached, and what is in the way.

    Example:
        >>> import gfx
        >>> from gfx.planning.options import Option
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> options = (Option(None, 0.0), Option(16, 0.1), Option(8, 0.4))
        >>> choices = [Choice(name, options, "group") for name in ("project.conv", "up.0.conv")]
        >>> limit = Budget(measure="params", limit=50_000)
        >>> decide(gfx.channels(program), layers_of(program), choices, [limit]).widths
        {'project.conv': 16}
    """
    measures = (*budgets, *_guides(budgets))
    left = monotone(choices, Costs(groups, layers, choices, measures))
    frontier = Frontier(left, Costs(groups, layers, left, measures))
    limits = [budget.limit for budget in budgets]
    free = [math.inf] * (len(measures) - len(budgets))
    for _ in range(_ATTEMPTS):
        plan = frontier.best([*limits, *free])
        if plan is None:
            break
        taken = [c.options[i] for c, i in zip(left, plan, strict=True)]
        values = {(c.kind, c.name): o.value for c, o in zip(left, taken, strict=True) if o.value}
        forms = {name: value for (kind, name), value in values.items() if kind == "layer"}
        widths = {name: value for (kind, name), value in values.items() if kind == "group"}
        cost = _true_cost(groups, forms, widths)
        if all(budget.value(cost) <= budget.limit for budget in budgets):
            return Decision(forms, widths, sum(option.damage for option in taken), cost)
        # the peak of memory is not priced to the last byte
        limits = [
            limit * min(1, budget.limit / budget.value(cost)) * (1 - 1e-9)
            for limit, budget in zip(limits, budgets, strict=True)
        ]
    raise _out_of_reach(groups, frontier, budgets)


def _guides(budgets: Sequence[Budget]) -> tuple[Budget, ...]:
    """Lists further measures to search along where one change alone often lowers none.

    The peak of memory is the largest of many places.
    """
    if all(budget.measure != "peak_activation_bytes" for budget in budgets):
        return ()
    return Budget(limit=1), Budget(measure="params", limit=1)


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


def _true_cost(groups: Groups, forms: Mapping[str, Form], widths: Mapping[str, int]) -> Cost:
    """Counts the rewritten program, on a copy that has shapes and no content."""
    small = groups.flow.program.copy()
    without_content(small.module)
    small.example_inputs = pytree.tree_map_only(Tensor, _on_meta, small.example_inputs)
    flow = groups.flow
    own = analyse(small, attention=flow.attention, group_norm=flow.group_norm)
    removed = own.none_removed()
    for name, width in widths.items():
        removed[own[name].roots[width:]] = True
    if removed.any():
        remove(small, own, removed)
    for layer in layers_of(small):
        form = forms.get(layer.path)
        if form is not None and not refusal(layer.module, form):
            split(small, layer.path, skeleton(layer.convolution, form))
    small.recompile()
    return cost_of(small)


def _on_meta(value: Any) -> Any:
    return value.to("meta")


def _out_of_reach(groups: Groups, frontier: Frontier, budgets: Sequence[Budget]) -> BudgetError:
    least = frontier.least()[: len(budgets)]
    shares = [value / budget.limit for value, budget in zip(least, budgets, strict=True)]
    at = shares.index(max(shares))
    budget, value = budgets[at], float(least[at])
    over = f", {human(value - budget.limit)} too much" if value > budget.limit else ""
    over = over or ", but not together with the other limits"
    reasons = dict.fromkeys(f"{g.name}: {g.pinned}" for g in groups if g.pinned)
    return BudgetError(
        f"decompose: the budget on {budget.name} is {human(budget.limit)}, and the least that the "
        f"options of {len(frontier.choices)} layers and groups reach is {human(value)}{over}; "
        "raise the budget, or allow smaller shares and ranks. What stands in the way: "
        f"{'; '.join(list(reasons)[:4]) or 'nothing is pinned'}"
    )
