"""decompose by measured damage: a sensitivity, or a budget with the least total damage."""

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gfx
from gfx.compression.factor import Form
from gfx.contract import Context, Outcome
from gfx.costs import Budget, cost_of
from gfx.io.data import synthetic
from gfx.ir.execute import distance, draw, run
from gfx.ir.layers import layers_of
from gfx.ir.program import Program
from gfx.metrics import metric
from gfx.pipeline import resolve
from gfx.planning import Choice, Option, PlanCosts, decide
from gfx.testing import check_pass
from passes.decompose import Decompose


class Uneven(nn.Module):
    """Has a layer that is separable already, one that hardly matters, and two that do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.easy = nn.Conv2d(8, 8, 3, padding=1)
        self.weak = nn.Conv2d(8, 8, 3, padding=1)
        self.hard = nn.ConvTranspose2d(8, 8, 4, 2, 1)
        self.to_rgb = nn.Conv2d(8, 3, 3, padding=1)
        with torch.no_grad():
            self.easy.weight.copy_(torch.randn(8, 8, 1, 1) * torch.randn(1, 8, 3, 3))
            self.weak.weight.mul_(0.05)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.easy(torch.relu(self.stem(x))))
        x = torch.relu(self.hard(x + self.weak(x)))
        return self.to_rgb(x)


def uneven() -> Program:
    torch.manual_seed(0)
    return gfx.trace(Uneven().double().eval(), torch.randn(1, 3, 12, 12).double())


def small_resnet() -> Program:
    torch.manual_seed(0)
    model = gfx.zoo.build("resnet_9blocks", ngf=4, n_blocks=2, image_size=16).double().eval()
    return gfx.trace(model, torch.randn(1, 3, 16, 16).double())


def done(program: Program, data: Any = None, **fields: Any) -> tuple[Program, Outcome]:
    after = program.copy()
    return after, Decompose(**fields).apply(after, Context(data))


def limited(program: Program, share: float, **fields: Any) -> tuple[Program, Outcome]:
    limit = Budget(limit=share * cost_of(program).macs.exact)
    return done(program, budget=(limit,), batches=1, min_channels=1, **fields)


def test_layers_of_little_sensitivity_are_decomposed_and_the_numbers_are_told() -> None:
    program, outcome = done(uneven(), where={"sensitivity": "< 0.05"})
    told = outcome.details["sensitivity"]
    assert {c.node for c in outcome.changes} == {n for n, d in told.items() if d < 0.05}
    assert {c.node for c in outcome.changes} == {"easy", "weak"}
    assert told["easy"] < 1e-6
    assert "easy.depthwise" in dict(program.module.named_modules())
    assert "smooth random images" in outcome.details["inputs"]
    why = {skip.node: skip.why for skip in outcome.skips}
    assert why["hard"] == f"its sensitivity is {told['hard']:.3g}, not < 0.05"


def test_a_sensitivity_is_what_decomposing_the_layer_alone_does() -> None:
    before, data = uneven(), [torch.randn(2, 3, 12, 12).double() for _ in range(3)]
    _, outcome = done(before, data, where={"sensitivity": ">= 0"})
    for layer in ("stem", "hard"):
        after, _ = done(before, where=layer)
        each = [metric("relative_l2")(run(before, (x,)), run(after, (x,))) for x in data]
        assert outcome.details["sensitivity"][layer] == pytest.approx(np.mean(each), rel=1e-9)
    assert "inputs" not in outcome.details


@pytest.mark.parametrize(
    ("sign", "names"),
    [
        ("<0.01", {"easy"}),
        ("> 0.05", {"stem", "hard", "to_rgb"}),
        (">=1e9", set()),
        ("<= 1e-6", {"easy"}),
    ],
)  # fmt: skip
def test_every_comparison_is_understood(sign: str, names: set[str]) -> None:
    _, outcome = done(uneven(), where={"sensitivity": sign})
    assert {c.node for c in outcome.changes} == names


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ({"sensitivity": "0.05"}, r"where: sensitivity: '0.05' is no comparison with a number"),
        ({"sensitivity": "< few"}, r"'< few' is no comparison.*signs: <, <=, >, >="),
        ({"sensitivity": 0.05}, r'0.05 is no comparison.*write for ex.* {sensitivity: "< 0.05"}'),
        ({"sensitivity": "== 1"}, "'== 1' is no comparison"),
        ({"sensitivty": "< 1"}, "unknown key 'sensitivty'"),
        ({"sensitivity": "< nan"}, "'< nan' is no comparison"),
        ({}, "sensitivity: None is no comparison"),
    ],
)  # fmt: skip
def test_a_malformed_condition_is_told(where: Any, text: str) -> None:
    with pytest.raises(gfx.RecipeError, match=text):
        gfx.apply({"passes": [{"decompose": {"where": where}}]}, uneven().module)


def test_a_budget_is_met_and_the_result_is_what_the_resolved_pass_gives() -> None:
    before = small_resnet()
    whole = cost_of(before).macs.exact
    for share in (0.6, 0.12):
        after, outcome = limited(before, share)
        assert 0.9 * share < cost_of(after).macs.exact / whole <= share
        assert outcome.details["achieved"]["macs (exact)"] == cost_of(after).macs.exact
        assert outcome.resolved is not None
        assert outcome.resolved.budget is None
        again = before.copy()
        outcome.resolved.apply(again, gfx.Context())
        first, second = after.module.state_dict(), again.module.state_dict()
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_budget_takes_what_does_least_damage_first() -> None:
    after, outcome = limited(uneven(), 0.8)
    assert "easy.depthwise" in dict(after.module.named_modules())
    assert outcome.details["damage"] < 0.05
    assert outcome.details["requested"].keys() == {"macs (exact)"}


def test_more_budget_never_gives_more_damage() -> None:
    before = small_resnet()
    damages = [limited(before, s)[1].details["damage"] for s in (0.12, 0.3, 0.6, 0.9)]
    assert all(a >= b for a, b in pairwise(damages))


def test_the_result_equals_the_original_with_zeros_read_and_whole_layers() -> None:
    before = small_resnet()
    after, outcome = limited(before, 0.12)
    assert {c.what.split()[0] for c in outcome.changes} == {"channels", "depthwise_separable"}
    assert outcome.reference is not None
    inputs = draw(before)
    assert distance(run(outcome.reference(before), inputs), run(after, inputs)) < 1e-9


def test_a_decision_is_the_best_of_all_there_are() -> None:
    program = uneven()
    groups = gfx.channels(program)
    rng = np.random.default_rng(0)
    forms = (Option(None, 0.0), Option(Form(rank=3), 0.1), Option(Form(rank=1), 0.4))
    choices = [Choice(layer.path, forms) for layer in layers_of(program)[:3]]
    for group in groups.free:
        widths = (Option(None, 0.0), Option(6, rng.random()), Option(2, 1.0))
        choices.append(Choice(group.name, widths, "group"))
    costs = PlanCosts(groups, layers_of(program), choices, [Budget(limit=1)])
    plans = np.array(list(product(range(3), repeat=len(choices))))
    prices = costs(plans)[:, 0]
    damages = sum(
        np.array([o.damage for o in c.options])[plans[:, i]] for i, c in enumerate(choices)
    )
    for share in (0.8, 0.5, 0.3):
        limit = Budget(limit=share * prices.max())
        found = decide(groups, layers_of(program), choices, [limit])
        assert limit.value(found.cost) <= limit.limit
        assert found.damage == pytest.approx(damages[prices <= limit.limit].min())


def test_prices_are_those_of_the_rewritten_program() -> None:
    before = small_resnet()
    for measure in ("macs", "params", "param_bytes", "peak_activation_bytes"):
        whole = Budget(measure=measure, limit=1).value(cost_of(before))
        limit = Budget(measure=measure, limit=0.8 * whole)
        after, outcome = done(before, budget=(limit,), batches=1, min_channels=1)
        value = Budget(measure=measure, limit=1).value(cost_of(after))
        assert 0 < value <= 0.8 * whole
        assert list(outcome.details["achieved"].values()) == [value]


def test_a_budget_that_is_met_already_changes_nothing() -> None:
    _, outcome = limited(uneven(), 1.0)
    assert not outcome.modified


def test_a_budget_out_of_reach_is_told_with_what_is_nearest_and_in_the_way() -> None:
    with pytest.raises(
        gfx.BudgetError,
        match=r"the budget on macs \(exact\) is .* the "
        r"least that the options of \d+ layers and groups reach is .* too much; raise the budget, "
        r"or allow smaller shares and ranks, or allow a smaller min_channels. What stands in the "
        r"way: .*output",
    ):
        limited(small_resnet(), 0.001)


def test_a_bare_pass_is_given_the_budget_of_the_recipe_and_a_told_one_is_not() -> None:
    limits = (Budget(limit=1.0),)
    assert resolve(Decompose(norm="instance"), Context(budgets=limits)).budget == limits
    for fields in (
        {"where": ("body",)},
        {"rank": 1},
        {"layers": {"*": 1}},
        {"where": {"sensitivity": "< 1"}},
    ):
        assert resolve(Decompose(**fields), Context(budgets=limits)).budget is None  # type: ignore[arg-type]
    recipe = {"budget": {"macs": 0.5}, "passes": ["decompose"]}
    program = small_resnet()
    report = gfx.report(gfx.apply(recipe, program.module, program.example_inputs))
    assert report.before is not None
    assert report.after is not None
    assert report.after.macs.exact <= 0.5 * report.before.macs.exact
    assert [check.passed for check in report.passes[0].checks] == [True] * 4
    # what the report says is a recipe that measures nothing
    again = {"passes": [{"decompose": report.passes[0].details["resolved"]}]}
    assert (
        gfx.report(gfx.apply(again, program.module, program.example_inputs)).after == report.after
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"budget": (Budget(limit=1),), "rank": 1}, "budget and rank both say what to do"),
        ({"budget": (Budget(limit=1),), "where": {"sensitivity": "< 1"}}, "says the same again"),
        ({"shares": (1.0,)}, "shares: 1.0 must be above 0 and below 1"),
        ({"ranks": (0,)}, "decompose: rank=0 must be"),
    ],
)  # fmt: skip
def test_fields_that_contradict_each_other_are_told(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(gfx.RecipeError, match=text):
        Decompose(**fields)


def test_kept_channels_without_ranks_are_all_that_changes() -> None:
    after, outcome = done(uneven(), kept={"easy": (0, 1, 2)})
    assert after.tensor("easy.weight").shape == (3, 8, 3, 3)
    assert {c.what for c in outcome.changes} == {"channels"}
    with pytest.raises(gfx.RecipeError, match=r"kept\[easy\] must list some"):
        done(uneven(), kept={"easy": (9,)})


def test_measured_choices_obey_the_laws() -> None:
    assert len(check_pass(Decompose(where={"sensitivity": "< 0.5"})).accepted) == 4
    limit = Budget(measure="params", limit=700)
    assert check_pass(Decompose(budget=(limit,), batches=1)).accepted


def test_a_model_on_the_meta_device_has_nothing_to_measure() -> None:
    with torch.device("meta"):
        model = gfx.zoo.build("dcgan", ngf=4)
    with pytest.raises(gfx.PreconditionError, match="meta device"):
        gfx.apply({"passes": [{"decompose": {"where": {"sensitivity": "< 1"}}}]}, model)


def test_synthetic_inputs_are_those_that_inspect_looks_at() -> None:
    program = uneven()
    _, outcome = done(program, where={"sensitivity": ">= 0"})
    after, _ = done(program, where="stem")
    each = [metric("relative_l2")(run(program, x), run(after, x)) for x in synthetic(program, 8)]
    assert outcome.details["sensitivity"]["stem"] == pytest.approx(np.mean(each), rel=1e-9)
