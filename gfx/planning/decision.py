"""Chooses one option of every choice so that all budgets are met with the least damage."""

import math
from collections.abc import Callable, Sequence
from copy import copy

import numpy as np

from gfx.compression.selection import what_stands
from gfx.costs import Budget, LatencyTimer
from gfx.coupling import Groups
from gfx.errors import BudgetError
from gfx.ir.layers import Layer
from gfx.ir.program import Program
from gfx.planning.budget_limits import Limits
from gfx.planning.choices import Choice, monotone
from gfx.planning.measured_search import MeasuredSearch
from gfx.planning.pareto import ParetoFront
from gfx.planning.plan import Decision, Plan, rewritten
from gfx.planning.plan_costs import PlanCosts
from gfx.progress import part_of_time, stage

__all__ = ["ChoiceSearch", "decide"]

Build = Callable[[Plan], Program]
_BEFORE_PLANS = 0.6  # share of the time for predicting what plans take; the rest is to try some


def decide(
    groups: Groups,
    layers: Sequence[Layer],
    choices: Sequence[Choice],
    budgets: Sequence[Budget],
    meter: LatencyTimer | None = None,
) -> Decision:
    """Finds the options of least total damage that meet every budget.

    A choice is of kind layer, with Forms as values, or of kind group, with widths: that many
    channels stay, the weakest are removed. Damages must add up, such as squared relative errors;
    the caller chooses their unit.

    The predicted latency selects the plan to try, the measured latency decides whether to take it.

    Args:
        groups: of the program.
        layers: of the program.
        choices: the options of some of the layers and groups.
        budgets: the budgets to keep, with absolute limits.
        meter: measures latency, for budgets on it.

    Raises: BudgetError with the least cost that can be reached, and what prevents less;
    TimingError if the machine is too noisy to decide whether a latency is kept.

    Example:
        >>> import gfx
        >>> from gfx.ir.layers import layers_of
        >>> from gfx.planning import Option
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> options = (Option(None, 0.0), Option(16, 0.1), Option(8, 0.4))
        >>> choices = [Choice(name, options, "group") for name in ("project.conv", "up.0.conv")]
        >>> limit = Budget(measure="params", limit=50_000)
        >>> decide(gfx.channels(program), layers_of(program), choices, [limit]).widths
        {'project.conv': 16}
    """
    limits = Limits(tuple(budgets), meter)
    method = ChoiceSearch(groups, layers, choices, limits)
    search = MeasuredSearch(method, limits)
    found = search.best()
    if found is None:
        raise search.refusal(method.out_of_reach(list(search.tried.values())))
    return found


class ChoiceSearch:
    """Finds plans of least damage among the options of some choices."""

    def __init__(
        self,
        groups: Groups,
        layers: Sequence[Layer],
        choices: Sequence[Choice],
        limits: Limits,
        build: Build | None = None,
    ) -> None:
        """Prepares a search.

        Args:
            groups: of the program.
            layers: of the program.
            choices: the options of some of the layers and groups.
            limits: the limits to keep.
            build: returns the program that results from a plan; None: `rewritten` builds it.
        """
        self._groups, self._budgets, self._build = groups, limits.budgets, build
        self._layers = layers
        with part_of_time(_BEFORE_PLANS):
            self._times = limits.predictors(groups)
            measures = (*limits.budgets, *_guides(limits.budgets))
            costs = PlanCosts(groups, layers, choices, measures, self._times)
            self._start(monotone(choices, costs), measures)

    def _start(self, left: Sequence[Choice], measures: Sequence[Budget]) -> None:
        self._measures = tuple(measures)
        self._costs = PlanCosts(self._groups, self._layers, left, measures, self._times)
        stage("looking for plans of least damage")
        self.front = ParetoFront(left, self._costs)
        self._numbers: dict[Plan, tuple[int, ...]] = {}  # of the options in a plan

    def find(self, limits: Sequence[float]) -> Plan | None:
        """Returns the plan of least damage that is predicted to be within some limits."""
        guided = [math.inf] * (self.front.prices.shape[1] - len(limits))
        numbers = self.front.best([*limits, *guided])
        return None if numbers is None else self._plan(numbers)

    def predict(self, plan: Plan) -> list[float]:
        """Returns the predicted cost of a plan that was found, in the unit of each budget."""
        prices = self._costs(np.array([self._numbers[plan]], dtype=np.int64))[0]
        return [float(price) for price in prices[: len(self._budgets)]]

    def smallest(self) -> list[Plan]:
        """Lists the plan predicted to be fastest; without other forms, that of least width too."""
        limits = np.array([budget.limit for budget in self._budgets])
        shares = (self.front.prices[:, : len(limits)] / limits).max(axis=1)
        fastest = tuple(self.front.plans[int(shares.argmin())].tolist())
        found = [fastest]
        if all(choice.kind == "group" for choice in self.front.choices):
            found.append(tuple(_narrowest(choice) for choice in self.front.choices))
        return [self._plan(numbers) for numbers in dict.fromkeys(found)]

    def simpler(self) -> "ChoiceSearch | None":
        """Returns a search among widths alone, which are predicted better than other forms."""
        groups = [choice for choice in self.front.choices if choice.kind == "group"]
        if not 0 < len(groups) < len(self.front.choices):
            return None
        other = copy(self)
        other._start(groups, self._measures)
        return other

    def least(self) -> list[float]:
        """Returns the least predicted cost of any plan, in the unit of each budget."""
        return [float(price) for price in self.front.least()[: len(self._budgets)]]

    def build(self, plan: Plan, *, content: bool) -> Program:
        """Returns the program that results from a plan."""
        if self._build is not None:
            return self._build(plan)
        return rewritten(self._groups, plan, content=content)

    def out_of_reach(self, tried: Sequence[Decision]) -> BudgetError:
        """Makes the error with the least cost that can be reached, measured where possible."""
        least = self.least()
        for place, budget in enumerate(self._budgets):
            known = [d.measured[budget.name] for d in tried if budget.name in d.measured]
            least[place] = min(known, default=least[place])
        shares = [value / b.limit for value, b in zip(least, self._budgets, strict=True)]
        at = shares.index(max(shares))
        budget, value = self._budgets[at], least[at]
        over = f", {budget.said(value - budget.limit)} too much" if value > budget.limit else ""
        over = over or ", but not together with the other limits"
        kinds = {choice.kind for choice in self.front.choices}
        allow = {"layer": "smaller shares and ranks", "group": "a smaller min_channels"}
        allowed = [f", or allow {text}" for kind, text in allow.items() if kind in kinds]
        return BudgetError(
            f"the budget on {budget.name} is {budget.said(budget.limit)}, and the "
            f"least that the options of {len(self.front.choices)} layers and groups reach is "
            f"{budget.said(value)}{over}; raise the budget{''.join(allowed)}. "
            f"What stands in the way: {what_stands(self._groups)}"
        )

    def _plan(self, numbers: tuple[int, ...]) -> Plan:
        """Returns the plan of the options with these numbers."""
        pairs = zip(self.front.choices, numbers, strict=True)
        taken = [(choice, choice.options[number]) for choice, number in pairs]
        done = [(choice, option.value) for choice, option in taken if option.value is not None]
        plan = Plan(
            {choice.name: value for choice, value in done if choice.kind == "layer"},
            {choice.name: value for choice, value in done if choice.kind == "group"},
            sum(option.damage for _, option in taken),
        )
        self._numbers[plan] = numbers
        return plan


def _narrowest(choice: Choice) -> int:
    """Returns the number of a group's smallest width."""
    widths = [math.inf if option.value is None else option.value for option in choice.options]
    return widths.index(min(widths))


def _guides(budgets: Sequence[Budget]) -> tuple[Budget, ...]:
    """Lists further measures to search along where a single change often lowers none.

    The peak of memory is the maximum over many places.
    """
    if all(budget.measure != "peak_activation_bytes" for budget in budgets):
        return ()
    return Budget(limit=1), Budget(measure="params", limit=1)
