"""Which channels go: ratios by stage, pools of like groups, bounds, approximate groups, budgets."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gfx
from gfx.compression.selection import Bounds, isomorphic
from gfx.costs import Budget, cost_of
from gfx.costs.symbolic import Pricing
from gfx.coupling import Group, analyse
from gfx.pipeline.report import render
from passes.channel_prune import ChannelPrune
from support.patterns_approximate import APPROXIMATE


def chain(*widths: int, seed: int = 0) -> gfx.Program:
    """Traces a chain of 3x3 convolutions, 3 → widths → 3, on 8x8 images."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise((3, *widths, 3))]
    return gfx.trace(nn.Sequential(*layers), torch.zeros(1, 3, 8, 8))


def left(program: gfx.Program) -> list[int]:
    return [m.out_channels for m in program.module.modules() if isinstance(m, nn.Conv2d)][:-1]


def why(outcome: gfx.Outcome) -> dict[str, str]:
    return {skip.node: skip.why for skip in outcome.skips}


def test_each_stage_loses_its_own_share_and_the_rest_follows_the_ratio():
    program = chain(16, 16, 16, 16)
    outcome = ChannelPrune(ratio=0.25, ratios={"1": 0.5, "[12]": 0.75}).apply(
        program, gfx.Context()
    )
    assert left(program) == [12, 8, 4, 12]  # of several globs the first that matches holds
    assert outcome.details["requested"] == {"ratio": 0.25, "ratios": {"1": 0.5, "[12]": 0.75}}


def test_without_a_ratio_what_no_stage_names_stays_whole():
    program = chain(16, 16, 16)
    outcome = ChannelPrune(ratios={"1": 0.5}).apply(program, gfx.Context())
    assert left(program) == [16, 8, 16]
    assert why(outcome)["0"] == "no glob of ratios names it, and there is no ratio"


def test_a_global_scope_ranks_the_groups_of_a_stage_together():
    program = chain(16, 16, 16, 16)
    fields = {"importance": "random", "scope": "global", "seed": 2}
    outcome = ChannelPrune(ratios={"[01]": 0.5, "[23]": 0.25}, **fields).apply(
        program, gfx.Context()
    )
    gone = {row["group"]: row["removed"] for row in outcome.details["groups"]}
    assert gone["0"] + gone["1"] == 16
    assert gone["2"] + gone["3"] == 8
    assert gone["0"] != gone["1"]


class Alike(nn.Module):
    """Two residual blocks that are built alike around a stream, and a head of another kind."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.a = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 1))
        self.b = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 1))
        self.head = nn.Conv2d(8, 16, 1)
        self.to_rgb = nn.Conv2d(16, 3, 1)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.a(x)
        x = x + self.b(x)
        return self.to_rgb(self.head(x).relu())


def test_isomorphic_scope_ranks_only_groups_that_are_built_alike():
    torch.manual_seed(0)
    model = Alike()
    with torch.no_grad():  # of block a every other channel hardly counts
        model.a[0].weight[::2] *= 1e-3
        model.a[2].weight[:, ::2] *= 1e-3
        model.b[0].weight[:] = 1
        model.b[2].weight[:] = 1
    program = gfx.trace(model, torch.zeros(1, 3, 8, 8))
    groups = analyse(program)
    keys = {group.name: isomorphic(groups, group) for group in groups.free}
    assert keys["a.0"] == keys["b.0"]
    assert len({keys[name] for name in ("stem", "a.0", "head")}) == 3
    outcome = ChannelPrune(ratio=0.25, scope="isomorphic").apply(program, gfx.Context())
    gone = {row["group"]: row["removed"] for row in outcome.details["groups"]}
    assert gone == {"stem": 2, "a.0": 8, "head": 4}  # the 8 of a.0 and b.0 are all in a.0


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from((1.0, 0.5, 0.3, 0.99)),
    st.lists(st.sampled_from((1, 2, 3, 4, 8, 32)), min_size=1, max_size=3),
)
def test_bounds_hold_in_channels_of_every_layer_whatever_is_asked(
    sizes, round_to, least, most, takes
):
    groups = [Group("g", n, (), (), (), None, np.arange(n), takes=tuple(takes)) for n in sizes]
    bounds, full = Bounds(round_to, least, most).of(groups), np.array(sizes)
    for share in (0.0, 0.4, 1.0):
        kept = bounds.rounded((full * share).astype(np.int64))
        assert (kept <= full).all()
        assert (full - kept <= full * most + 1e-6).all()
        for each in takes:
            assert ((kept * each >= least) | (kept == full)).all()
            assert ((kept * each % round_to == 0) | (kept == full)).all()
        assert all(k in levels for k, levels in zip(kept, bounds.levels(), strict=True))
        assert all(
            (k == n) or not bounds.whole(g) for k, n, g in zip(kept, sizes, groups, strict=True)
        )


def test_min_channels_and_max_ratio_hold_in_every_scope():
    for scope in ("local", "global", "isomorphic"):
        program = chain(32, 6, 16)
        fields = {"min_channels": 5, "max_ratio": 0.5, "scope": scope, "importance": "random"}
        ChannelPrune(ratio=0.9, **fields).apply(program, gfx.Context())
        assert left(program) == [16, 5, 8]
    program = chain(32, 6, 16)
    cost = cost_of(program)
    budget = Budget(limit=0.7 * cost.macs.exact)
    ChannelPrune(budget=(budget,), max_ratio=0.25, tolerance=0.1).apply(program, gfx.Context())
    assert all(a >= b for a, b in zip(left(program), (24, 5, 12), strict=True))
    bounds = r"\(round_to=1, min_channels=4, max_ratio=0.25\)"
    reach = rf"smallest {bounds} .*; raise the budget, or raise max_ratio"
    with pytest.raises(gfx.BudgetError, match=reach):
        ChannelPrune(budget=(Budget(limit=1e4),), max_ratio=0.25).apply(
            chain(32, 6, 16), gfx.Context()
        )


def test_bounds_that_leave_nothing_to_remove_are_named():
    with pytest.raises(
        gfx.PreconditionError, match=r"removes nothing \(round_to=1, min_channels=9"
    ):
        ChannelPrune(ratio=0.5, min_channels=9).apply(chain(8), gfx.Context())
    with pytest.raises(gfx.PreconditionError, match=r"ratios=\{'0': 0.01\} removes nothing"):
        ChannelPrune(ratios={"0": 0.01}).apply(chain(8), gfx.Context())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ratios": {"a": 1.0}}, r"ratios\[a\]=1.0 must be at least 0 and below 1"),
        ({"min_channels": 0}, r"min_channels=0 must be between 1 and "),
        ({"max_ratio": 0.0}, r"max_ratio=0.0 must be above 0 and at most 1"),
        ({"max_ratio": 1.5}, r"max_ratio=1.5 must be above 0 and at most 1"),
        ({"tolerance": -0.1}, r"tolerance=-0.1 must be between 0 and 1"),
        ({"ratios": {"a": 0.5}, "kept": {"a": (1,)}}, r"ratios and kept both say what to remove"),
    ],
)
def test_a_field_out_of_range_is_refused(fields, message):
    with pytest.raises(gfx.RecipeError, match=message):
        ChannelPrune(**fields)


def test_a_stage_that_names_no_module_is_most_likely_a_slip():
    torch.manual_seed(0)
    program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
    with pytest.raises(gfx.RecipeError, match=r"ratios: no module is named 'upp.0.conv'; did you"):
        ChannelPrune(ratios={"upp.0.conv": 0.5}).apply(program, gfx.Context())


@pytest.mark.parametrize("name", ["LayerNormLast", "ChannelSoftmax"])
def test_approximate_groups_are_told_and_can_be_refused(name):
    kind = APPROXIMATE[name]
    torch.manual_seed(0)
    model, x = kind().eval(), torch.randn(1, 3, 8, 8)
    reasons = {g.name: g.approximate for g in gfx.channels(gfx.trace(model, x)) if not g.exact}
    assert reasons
    small = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, model, x)
    assert gfx.report(small).passes[0].details["approximate"] == reasons
    for group, reason in reasons.items():
        assert f"approximate {group}: {reason}" in render(gfx.report(small), width=1000)
    program = gfx.trace(model, x)
    try:
        outcome = ChannelPrune(ratio=0.5, approximate="refuse").apply(program, gfx.Context())
    except gfx.PreconditionError:
        return  # nothing else is free
    assert "approximate" not in outcome.details
    for group, reason in reasons.items():
        assert why(outcome)[group] == f"approximate: refuse, and {reason}"


MEASURES = ("macs", "params", "param_bytes", "peak_activation_bytes")


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", ["unet_256", "srresnet"])
def test_every_measure_is_met_within_a_hundredth_from_below(name, measure):
    with torch.device("meta"):
        model = gfx.zoo.build(name).eval()
    inputs = tuple(x.to("meta") for x in gfx.zoo.example_inputs(name))
    program = gfx.trace(model, inputs)
    whole = Budget(measure=measure, limit=1).value(cost_of(program))
    budget = Budget(measure=measure, limit=0.75 * whole)
    ChannelPrune(budget=(budget,), round_to=8, importance="random").apply(program, gfx.Context())
    assert 0.99 * budget.limit <= budget.value(cost_of(program)) <= budget.limit


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from((4, 6, 16, 24)), min_size=1, max_size=3),
    st.sampled_from((1, 2, 4)),
    st.sampled_from((0.7, 0.5, 0.3)),
    st.sampled_from(MEASURES),
)
def test_a_budget_is_met_closely_or_the_nearest_on_both_sides_are_told(
    sizes, round_to, share, measure
):
    program = chain(*sizes)
    cost = cost_of(program)
    budget = Budget(measure=measure, limit=share * Budget(measure=measure, limit=1).value(cost))
    groups = analyse(program)
    pricing = Pricing(groups, cost)
    options = Bounds(round_to).of(pricing.groups).levels()
    prices = pricing.value(list(itertools.product(*options)), budget)
    low, high = prices[prices <= budget.limit], prices[prices > budget.limit]
    pass_ = ChannelPrune(budget=(budget,), round_to=round_to)
    if low.size and low.max() >= 0.99 * budget.limit:
        pass_.apply(program, gfx.Context())
        assert 0.99 * budget.limit <= budget.value(cost_of(program)) <= budget.limit
        return
    with pytest.raises(gfx.BudgetError) as told:
        pass_.apply(program, gfx.Context())
    assert "What stands in the way: " in str(told.value)
    assert "0.in: its channels are those of the model's input" in str(told.value)
    if low.size:  # too coarse: the nearest values are those of all configurations
        assert f"({100 * low.max() / budget.limit:.2f} %) below" in str(told.value)
        assert f"({100 * high.min() / budget.limit:.2f} %) above" in str(told.value)
    else:
        assert "too much" in str(told.value)


def test_a_tolerance_that_the_error_suggests_is_enough():
    program = chain(16, 24)
    budget = Budget(limit=0.55 * cost_of(program).macs.exact)
    with pytest.raises(gfx.BudgetError, match=r"lower round_to.* or allow it with tol") as told:
        ChannelPrune(budget=(budget,), round_to=8).apply(program, gfx.Context())
    tolerance = float(str(told.value).split("allow it with tolerance=")[1].split(". ")[0])
    ChannelPrune(budget=(budget,), round_to=8, tolerance=tolerance).apply(program, gfx.Context())
    reached = budget.value(cost_of(program))
    assert (1 - tolerance) * budget.limit <= reached <= budget.limit


def test_budgets_together_are_all_met_and_one_of_them_closely():
    program = chain(48, 64, 40)
    cost = cost_of(program)
    limits = {
        "macs": 0.5 * cost.macs.exact,
        "peak_activation_bytes": 0.6 * cost.peak_activation_bytes,
    }
    budgets = tuple(Budget(measure=name, limit=limit) for name, limit in limits.items())
    ChannelPrune(budget=budgets).apply(program, gfx.Context())
    shares = [budget.value(cost_of(program)) / budget.limit for budget in budgets]
    assert 0.99 <= max(shares) <= 1


def test_a_peak_is_met_by_narrowing_only_what_makes_it():
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 3, stride=4), nn.Conv2d(32, 3, 1)]
    torch.manual_seed(0)
    program = gfx.trace(nn.Sequential(*layers), torch.zeros(1, 3, 32, 32))
    peak = cost_of(program).peak_activation_bytes
    budget = Budget(measure="peak_activation_bytes", limit=0.6 * peak)
    ChannelPrune(budget=(budget,), tolerance=0.05).apply(program, gfx.Context())
    first, second = left(program)
    assert first < 32
    assert second == 32


def test_a_peak_out_of_reach_names_the_place_that_pins_it():
    program = chain(16)  # 3 channels of 8x8 pixels come in, and one at least is made
    budget = Budget(measure="peak_activation_bytes", limit=800)
    message = r"in the way: the peak is then at node _0; 0.in: its channels are those of the model"
    with pytest.raises(gfx.BudgetError, match=message):
        ChannelPrune(budget=(budget,)).apply(program, gfx.Context())
