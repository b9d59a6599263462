import copy

import pytest
import torch
from torch import nn

import gfx
from gfx.costs import Budget, cost_of
from gfx.planning import width_search
from passes.channel_prune import ChannelPrune
from support.oracle import alike


def dcgan(**options: int) -> gfx.Program:
    torch.manual_seed(0)
    options = {"ngf": 8} | options
    return gfx.trace(
        gfx.zoo.build("dcgan", **options).eval(), gfx.zoo.example_inputs("dcgan", **options)
    )


def widths(program: gfx.Program) -> list[int]:
    return [m.out_channels for m in program.module.modules() if isinstance(m, nn.ConvTranspose2d)]


def test_the_ratio_counts_coupled_channels():
    program = dcgan()
    outcome = ChannelPrune(ratio=0.25).apply(program, gfx.Context())
    assert widths(program) == [48, 24, 12, 6, 3]
    assert outcome.details["requested"] == {"ratio": 0.25}
    assert outcome.details["achieved"] == {"ratio": 0.25, "removed": 30, "of": 120}


@pytest.mark.parametrize(("ratio", "left"), [(0.25, 12), (0.5, 8), (0.75, 4)])
def test_a_gate_loses_the_share_that_was_asked_for(ratio, left):
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.to_rgb = nn.Conv2d(3, 32, 3), nn.Conv2d(16, 3, 1)

        def forward(self, x):
            a, b = self.conv(x).chunk(2, 1)
            return self.to_rgb(a * torch.sigmoid(b))

    program = gfx.trace(Gate(), torch.zeros(1, 3, 8, 8))
    ChannelPrune(ratio=ratio).apply(program, gfx.Context())
    assert program.tensor("conv.weight").shape[0] == 2 * left
    assert program.module.to_rgb.in_channels == left


def test_the_least_important_channels_go():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1))
    with torch.no_grad():
        for channel, size in enumerate((1.0, 0.1, 2.0, 0.2)):
            model[0].weight[channel] = size
            model[1].weight[:, channel] = size
    program = gfx.trace(model, torch.zeros(1, 3, 4, 4))
    outcome = ChannelPrune(ratio=0.5, importance="l2", min_channels=1).apply(program, gfx.Context())
    assert outcome.details["kept"] == {"0": [0, 2]}
    assert torch.equal(program.tensor("0.weight"), model[0].weight[[0, 2]])
    assert torch.equal(program.tensor("1.weight"), model[1].weight[:, [0, 2]])


def test_global_scope_ranks_all_channels_together():
    program = dcgan()
    outcome = ChannelPrune(ratio=0.5, scope="global").apply(program, gfx.Context())
    assert outcome.details["achieved"]["removed"] == 60
    assert all(width >= 1 for width in widths(program))


def test_what_is_kept_is_a_multiple_of_round_to():
    program = dcgan()
    ChannelPrune(ratio=0.6, round_to=8).apply(program, gfx.Context())
    assert widths(program) == [32, 16, 8, 8, 3]


def test_keep_and_targets_name_modules():
    program = dcgan()
    outcome = ChannelPrune(ratio=0.5, targets=("up.*",), keep=("up.1.*",)).apply(
        program, gfx.Context()
    )
    assert widths(program) == [64, 16, 16, 4, 3]
    assert {s.node: s.why for s in outcome.skips}["up.1.conv"] == "keep names it"
    assert {s.node: s.why for s in outcome.skips}["project.conv"] == "targets does not name it"


def test_exact_widths_are_reached():
    program = dcgan()
    outcome = ChannelPrune(widths={"project.conv": 5, "up.[01].conv": 7}).apply(
        program, gfx.Context()
    )
    assert widths(program) == [5, 7, 7, 8, 3]
    first = outcome.changes[0]
    assert (first.node, first.before, first.after) == ("project.conv", 64, 5)


def test_what_was_kept_repeats_the_removal():
    first, second = dcgan(), dcgan()
    outcome = ChannelPrune(ratio=0.4, importance="random", seed=7).apply(first, gfx.Context())
    kept = {name: tuple(index) for name, index in outcome.details["kept"].items()}
    ChannelPrune(kept=kept).apply(second, gfx.Context())
    for a, b in zip(
        first.module.state_dict().values(), second.module.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)


def test_removing_in_two_steps_equals_removing_at_once():
    once, twice = dcgan(), dcgan()
    kept = (
        ChannelPrune(widths={"project.conv": 10, "up.0.conv": 9})
        .apply(once, gfx.Context())
        .details["kept"]
    )
    for name in ("project.conv", "up.0.conv"):
        ChannelPrune(kept={name: tuple(kept[name])}).apply(twice, gfx.Context())
    x = torch.randn(2, 100, 1, 1)
    assert alike(once.module(x), twice.module(x))


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("convention", ["exact", "output", "output+norm"])
def test_a_budget_is_met_from_below_and_closely(scope, convention):
    program = dcgan(ngf=32)
    limit = 0.3 * Budget(convention=convention, limit=1).value(cost_of(program))
    budget = Budget(convention=convention, limit=limit)
    ChannelPrune(budget=(budget,), scope=scope).apply(program, gfx.Context())
    assert 0.99 * limit <= budget.value(cost_of(program)) <= limit


def test_trading_coarse_steps_comes_nearer_the_budget(monkeypatch):
    torch.manual_seed(0)
    widths = ((3, 16), (16, 112), (112, 128), (128, 80), (80, 3))
    layers = [nn.Conv2d(a, b, 3, padding=1) for a, b in widths]
    program = gfx.trace(nn.Sequential(*layers), torch.zeros(1, 3, 16, 16))
    limits = [share * cost_of(program).macs.exact for share in (0.3, 0.4, 0.5, 0.6)]
    monkeypatch.setattr(width_search, "nearest", lambda fill, kept, levels, tolerance: (kept, None))

    def reached(limit: float) -> int:
        small = program.copy()
        ChannelPrune(budget=(Budget(limit=limit),), round_to=8, tolerance=1).apply(
            small, gfx.Context()
        )
        return cost_of(small).macs.exact

    traded = [reached(limit) for limit in limits]
    monkeypatch.setattr(width_search.WidthSearch, "_traded", lambda self, kept: kept)
    plain = [reached(limit) for limit in limits]
    assert all(a <= b <= limit for a, b, limit in zip(plain, traded, limits, strict=True))
    assert traded[2] >= 0.99 * limits[2] > plain[2]


def test_several_budgets_are_met_together():
    program = dcgan(ngf=32)
    cost = cost_of(program)
    budgets = (
        Budget(limit=0.5 * cost.macs.exact),
        Budget(measure="params", limit=0.2 * cost.params),
    )
    ChannelPrune(budget=budgets).apply(program, gfx.Context())
    assert all(budget.value(cost_of(program)) <= budget.limit for budget in budgets)


def test_a_budget_out_of_reach_names_the_floor_and_what_stands_in_the_way():
    with pytest.raises(
        gfx.BudgetError,
        match=r"smallest \(round_to=8, min_channels=4\) it is .* too much; .*input z",
    ):
        ChannelPrune(budget=(Budget(limit=10),), round_to=8).apply(dcgan(), gfx.Context())


def test_a_budget_that_is_met_already_changes_nothing():
    outcome = ChannelPrune(budget=(Budget(limit=1e12),)).apply(dcgan(), gfx.Context())
    assert not outcome.modified


def test_removing_nothing_is_an_error_with_the_reasons():
    program = gfx.trace(nn.Sequential(nn.Conv2d(3, 3, 1)), torch.zeros(1, 3, 4, 4))
    with pytest.raises(
        gfx.PreconditionError, match=r"removes nothing .*Free groups .*: none.*input"
    ):
        ChannelPrune(ratio=0.5).apply(program, gfx.Context())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ratio": 1.0}, r"ratio=1.0 must be at least 0 and below 1"),
        ({"round_to": 0}, r"round_to=0 must be between 1 and "),
        ({"widths": {"a": 0}}, r"widths\[a\]=0 must be between 1 and "),
        ({"ratio": 0.5, "widths": {"a": 1}}, r"ratio and widths both say what to remove"),
    ],
)
def test_a_field_out_of_range_is_refused(fields, message):
    with pytest.raises(gfx.RecipeError, match=message):
        ChannelPrune(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"keep": ("nobody",)}, r"keep: no module is named 'nobody'"),
        ({"widths": {"up.0.cnv": 4}}, r"no module named 'up.0.cnv' .*did you mean 'up.0.conv'"),
        ({"widths": {"up.0.conv": 99}}, r"widths\[up.0.conv\]=99, but it has 32 channels"),
        ({"widths": {"to_rgb": 2}}, r"widths\[to_rgb\]=2 cannot be reached, 3 is the nearest"),
        (
            {"kept": {"up.0.conv": (40,)}},
            r"kept\[up.0.conv\] must list some of the channels 0 to 31",
        ),
        ({"kept": {"to_rgb": (0,)}}, r"kept\[to_rgb\] removes channels that are not free"),
    ],
)
def test_a_name_or_width_that_does_not_fit_is_refused(fields, message):
    with pytest.raises(gfx.RecipeError, match=message):
        ChannelPrune(**fields).apply(dcgan(), gfx.Context())


def test_weights_that_are_not_finite_are_named():
    program = dcgan()
    program.tensor("up.0.conv.weight").data[0, 0] = torch.nan
    with pytest.raises(
        gfx.InputError, match=r"up\.0\.conv\.weight holds values that are not finite"
    ):
        ChannelPrune(ratio=0.5).apply(program, gfx.Context())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_and_frozen_parameters_are_kept(dtype):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 1))
    model.to(dtype).requires_grad_(False)
    program = gfx.trace(model.eval(), torch.zeros(1, 3, 8, 8, dtype=dtype))
    ChannelPrune(ratio=0.5).apply(program, gfx.Context())
    assert {(p.dtype, p.requires_grad) for p in program.module.parameters()} == {(dtype, False)}
    assert program.module(torch.zeros(1, 3, 8, 8, dtype=dtype)).dtype == dtype


def test_a_model_on_meta_is_pruned_by_position():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 1)).to("meta")
    program = gfx.trace(model, torch.zeros(1, 3, 8, 8, device="meta"))
    outcome = ChannelPrune(ratio=0.5).apply(program, gfx.Context())
    assert outcome.details["kept"] == {"0": [0, 1, 2, 3]}


def test_tied_weights_stay_tied():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.b.weight = self.a.weight
            self.stem, self.to_rgb = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)

        def forward(self, x):
            return self.to_rgb(self.b(self.a(self.stem(x)).relu()).relu())

    program = gfx.trace(Tied(), torch.zeros(1, 3, 8, 8))
    ChannelPrune(ratio=0.5).apply(program, gfx.Context())
    assert program.module.a.weight is program.module.b.weight
    assert program.module.a.weight.shape == (4, 4, 3, 3)


def test_the_numbers_of_a_model_survive_its_shapes():
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 3, 1)

        def forward(self, x):
            x = self.a(x)
            return self.b(x * x.shape[1] ** -0.5)

    model = Scaled().double()
    before = copy.deepcopy(model)
    with torch.no_grad():
        before.b.weight[:, 8:] = 0
        model.b.weight[:, 8:] = 0
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    program = gfx.trace(model, x)
    ChannelPrune(kept={"a": tuple(range(8))}).apply(program, gfx.Context())
    assert torch.allclose(program.module(x), before(x), rtol=1e-12)


def test_a_model_of_parametrized_layers_alone_is_told_to_fold_them():
    wrap = nn.utils.parametrizations.spectral_norm
    model = nn.Sequential(wrap(nn.Conv2d(3, 8, 1)), nn.ReLU(), wrap(nn.Conv2d(8, 3, 1))).eval()
    program = gfx.trace(model, torch.randn(1, 3, 8, 8))
    with pytest.raises(gfx.PreconditionError, match="run fold_parametrizations before"):
        ChannelPrune(ratio=0.5).apply(program, gfx.Context())
