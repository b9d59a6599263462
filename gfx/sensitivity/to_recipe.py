"""Turns a sensitivity table into a recipe.

1. Without a budget each layer gets the recommendation of its row.
2. With one, the plan of least damage within it: for each group one of the probed widths or all its
   channels, for each layer the decomposition or none (gfx/sensitivity/plans.py).
3. The recipe is applied before it is returned. Where the result costs more than predicted, the
   limit is lowered by as much.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from gfx.compression.factor import Form, written_rank
from gfx.contract import Pass
from gfx.costs import Budget, Meter
from gfx.errors import BudgetError, InputError
from gfx.io.yaml_text import dump
from gfx.ir.program import Program
from gfx.pipeline import apply
from gfx.pipeline.recipe import Recipe
from gfx.planning import ChoiceSearch, MeasuredSearch, Plan, resolve_limits
from gfx.sensitivity.plans import Plans
from gfx.sensitivity.prune_fields import narrowing, width
from gfx.sensitivity.table import Table

__all__ = ["recipe", "recipe_text"]

_TRIES = 8


def recipe(
    table: Table, budget: Mapping[str, Any] | None = None, *, meter: Meter | None = None
) -> Recipe:
    """Returns a recipe that acts on a table, under a budget as recipes write it.

    `meter` measures for budgets on latency; None measures on this machine.

    Raises: BudgetError if no choice among the probed ones meets the budget; InputError if nothing
    is recommended, or the table was not made by gfx.inspect; RecipeError if the budget says
    none that gfx can check.

    Example:
        >>> import gfx
        >>> model = gfx.zoo.build("dcgan", ngf=4).eval()
        >>> made = recipe(gfx.inspect(model), {"macs": 0.5})
        >>> 0.3 < gfx.cost(gfx.apply(made, model)).macs.exact / gfx.cost(model).macs.exact <= 0.5
        True
    """
    plans = Plans(table)
    if budget is not None:
        return _within(plans, budget, meter)
    plan = _advised(plans)
    if not (plan.forms or plan.widths):
        raise InputError(
            "there is no recipe to write: every layer is recommended to be left as it is; say a "
            "budget (--budget macs=0.5), or tolerate more damage (--tolerate)"
        )
    return _written(plans, plan, None)


def recipe_text(made: Recipe) -> str:
    """Writes a recipe as YAML without fields at their defaults.

    Example:
        >>> print(recipe_text(Recipe.load({"passes": [{"channel_prune": {"ratio": 0.25}}]})))
        recipe: 1
        passes:
        - channel_prune: {ratio: 0.25}
        <BLANKLINE>
    """
    spec = made.spec()
    said = {k: v for k, v in spec.items() if v not in (None, "") and k != "passes"}
    return dump({**said, "passes": [_brief(pass_) for pass_ in made.passes]})


def _brief(pass_: Pass) -> dict[str, Any]:
    """Returns the fields of a pass that are not at their defaults."""
    bare = {f.name: _default(f) for f in dataclasses.fields(pass_) if f.init}
    fields = {name: value for name, value in pass_.spec()[pass_.name].items()}
    return {pass_.name: {k: v for k, v in fields.items() if getattr(pass_, k) != bare[k]}}


def _default(field: "dataclasses.Field[Any]") -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _advised(plans: Plans) -> Plan:
    """Returns the plan of every row's recommendation (rule 1); of a group's rows the narrowest."""
    forms: dict[str, Form] = {}
    shares: dict[str, float] = {}
    for row in plans.table:
        if isinstance(row.choice, str):
            forms[row.layer] = plans.form
        elif row.choice is not None and row.group is not None:
            shares[row.group] = min(row.choice, shares.get(row.group, 1.0))
    groups = plans.groups
    return Plan(forms, {name: width(groups, groups[name], n) for name, n in shares.items()})


def _within(plans: Plans, budget: Mapping[str, Any], meter: Meter | None) -> Recipe:
    """Finds the plan of least damage that meets a budget when carried out (rules 2 and 3)."""
    limits = resolve_limits(budget, plans.program, meter)
    layers = tuple(plans.layers.values())
    method = ChoiceSearch(
        plans.groups, layers, plans.choices, limits, lambda plan: _carried_out(plans, plan)
    )
    search = MeasuredSearch(method, limits, _TRIES)
    found = search.best()
    if found is None:
        raise search.refusal(BudgetError(_unmet(limits.budgets, method.least())))
    return _written(plans, found.plan, budget)


def _written(plans: Plans, plan: Plan, budget: Mapping[str, Any] | None) -> Recipe:
    """Writes a plan as a recipe: removals come first, as channels were chosen on the original."""
    facts = plans.table.facts
    passes: list[Any] = [*facts.needs]
    if plan.widths:
        passes.append({"channel_prune": narrowing(plans.groups, plan.widths)})
    if plan.forms:
        ranks = {path: written_rank(plans.layers[path], form) for path, form in plan.forms.items()}
        form = {"kind": plans.form.kind, "norm": plans.form.norm, "init": plans.form.init}
        passes.append({"decompose": {**form, "layers": ranks}})
    what = "what it recommends" if budget is None else "the least damage within the budget"
    return Recipe.load(
        {
            "about": f"what gfx inspect found in {facts.model}: {what}",
            "input": _inputs(plans),
            "budget": None if budget is None else dict(budget),
            "seed": facts.seed,
            "passes": passes,
        }
    )


def _inputs(plans: Plans) -> list[dict[str, Any]] | None:
    """Returns the inputs that the shares of MACs refer to, if they are tensors."""
    inputs = plans.program.example_inputs
    if not all(isinstance(x, Tensor) for x in inputs):
        return None
    return [{"shape": [*x.shape], "dtype": str(x.dtype).removeprefix("torch.")} for x in inputs]


def _carried_out(plans: Plans, plan: Plan) -> Program:
    """Applies a plan as a recipe, and returns the program that results.

    Where the weights come from does not matter for its costs, so no data is needed.
    """
    program = plans.program
    passes = [_without_data(pass_.spec()) for pass_ in _written(plans, plan, None).passes]
    small = apply({"passes": passes}, program.module, program.example_inputs, verify=False)
    return Program(small, program.example_inputs)


def _without_data(spec: dict[str, Any]) -> dict[str, Any]:
    """Returns the spec of a pass without any need for data."""
    return {
        name: {**fields, "init": "svd"} if fields.get("init") == "data" else fields
        for name, fields in spec.items()
    }


def _unmet(budgets: Sequence[Budget], least: Sequence[float]) -> str:
    said = "; ".join(
        f"{b.name} is to be at most {b.said(b.limit)}, and the least that they reach is "
        f"{b.said(value)}"
        for b, value in zip(budgets, least, strict=True)
    )
    return (
        f"the changes that were tried do not meet the budget: {said}; raise the budget, or inspect "
        "more layers"
    )
