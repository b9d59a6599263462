"""The shipped recipes reach the figures they name."""

import pytest
import torch
from torch import nn

import gfx
from gfx.pipeline.recipe import Recipe, shipped


@pytest.mark.parametrize(
    ("name", "macs", "params"),
    [
        ("gan-compression-horse2zebra", 2_546_204_672, 356_867),
        ("gan-compression-edges2shoes", 4_993_843_200, 822_051),
    ],
)
def test_gan_compression_subnets_cost_what_was_published(name: str, macs: int, params: int) -> None:
    with torch.device("meta"):
        model = gfx.zoo.build("mobile_resnet_9blocks")
    small = gfx.apply(name, model, verify=False)
    cost = gfx.report(small).after
    assert cost is not None
    assert (cost.macs.output_norm, cost.params) == (macs, params)


@pytest.mark.parametrize("generator", gfx.zoo.names())
def test_half_and_quarter_are_met_within_a_hundredth_in_steps_of_eight(generator: str) -> None:
    with torch.device("meta"):
        model = gfx.zoo.build(generator)
    for name, share in (("half", 0.5), ("quarter", 0.25)):
        told = gfx.report(gfx.apply(name, model, verify=False))
        assert told.before is not None
        assert told.after is not None
        assert 0.99 * share <= told.after.macs.exact / told.before.macs.exact <= share
        for row in told.passes[-1].details["groups"]:
            assert (row["channels"] - row["removed"]) % 8 == 0


def test_a_separable_body_costs_what_the_mobile_resnet_does() -> None:
    with torch.device("meta"):
        models = [gfx.zoo.build(name) for name in ("resnet_9blocks", "mobile_resnet_9blocks")]
    small = gfx.apply("separable-body", models[0], verify=False)
    costs = [gfx.report(small).after, gfx.cost(models[1])]
    assert costs[0] is not None
    assert costs[0].macs == costs[1].macs
    assert costs[0].params == costs[1].params == 1_987_075


@pytest.mark.parametrize(
    ("recipe", "model", "module"),
    [
        ("agp-half", "resnet_9blocks", "ChannelMask"),
        ("self-supervised", "dcgan", "MaskedConvTranspose2d"),
        ("ppcd", "sagan", "LearnedMask"),
        ("gcc-slimming", "dcgan", "Penalty"),
        ("gan-compression-taps", "resnet_9blocks", "Tap"),
        ("gcc-taps", "unet_256", "Tap"),
    ],
)
def test_what_prepares_for_training_puts_its_modules_in(
    recipe: str, model: str, module: str
) -> None:
    with torch.device("meta"):
        built = gfx.zoo.build(model)
    prepared = gfx.apply(recipe, built, verify=False)
    assert module in {type(each).__name__ for each in prepared.modules()}


def test_convert_takes_out_all_that_preparing_put_in() -> None:
    torch.manual_seed(0)
    model = gfx.zoo.build("dcgan", ngf=8).eval()
    recipe = {"passes": ["distill_taps", {"mask": {"one_shot": True}}]}
    prepared = gfx.apply(recipe, model)
    gfx.schedule(prepared).step()
    small = gfx.apply("convert", prepared)
    machinery = [name for name, m in small.named_modules() if "gfx." in type(m).__module__]
    assert machinery == []
    x = torch.randn(2, 100, 1, 1)
    assert torch.allclose(small(x), prepared(x), atol=1e-5)
    assert gfx.cost(small).params < 0.5 * gfx.cost(model).params


def test_every_shipped_recipe_loads_and_says_what_it_is_for() -> None:
    for name in shipped():
        assert len(Recipe.load(name).about) > 10


def test_a_small_generator_is_halved_as_nearly_as_steps_of_eight_allow():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 3, 3))
    small = gfx.apply("half", model, torch.randn(1, 3, 16, 16))
    assert small.get_submodule("0").out_channels == 8
    strict = {"budget": {"macs": 0.6}, "passes": [{"channel_prune": {"round_to": 8}}]}
    with pytest.raises(gfx.BudgetError, match=r"not within tolerance=0\.01"):
        gfx.apply(strict, model, torch.randn(1, 3, 16, 16))
