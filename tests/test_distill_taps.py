"""Taps: where they go, that they change nothing, and what they see."""

import pytest
import torch
from torch import nn

import gfx
from gfx.modules import Tap


def recipe(**fields):
    return {"passes": [{"distill_taps": fields}]}


def tapped_places(model, inputs=None, **fields):
    small = gfx.apply(recipe(**fields), model, inputs)
    return [change.node for change in gfx.report(small).passes[0].changes]


def net():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1)
    return nn.Sequential(*layers).double()


def image():
    return torch.randn(2, 3, 9, 9, dtype=torch.float64)


def test_gan_compression_taps_the_last_down_block_and_every_third_block():
    model = gfx.zoo.build("resnet_9blocks", ngf=2, image_size=16)
    places = tapped_places(model, rule="gan_compression")
    assert places == ["down.1.act", "blocks.2", "blocks.5", "blocks.8"]


def test_a_glob_taps_the_activation_that_a_module_returns():
    model, x = net(), image()
    small = gfx.apply(recipe(layers=["1", "2"]), model, x)
    y, features = gfx.tapped(small)(x)
    assert torch.equal(y, model(x))
    assert list(features) == ["1", "2"]
    assert torch.equal(features["1"], model[:2](x))
    assert torch.equal(features["2"], model[:3](x))


def test_a_glob_that_matches_nothing_names_what_is_near():
    with pytest.raises(gfx.PreconditionError, match=r"is named 'blocks.conv'; near are"):
        gfx.apply(
            recipe(layers=["blocks.conv"]), gfx.zoo.build("resnet_9blocks", ngf=2, image_size=16)
        )


def test_a_tap_is_a_visible_module():
    small = gfx.apply(recipe(layers=["1"]), net(), image())
    assert [path for path, m in small.named_modules() if isinstance(m, Tap)] == ["taps.1"]
