"""The pass widths notes what a supernet may choose, and changes nothing else."""

import pytest
import torch
from torch import nn

import gfx
from gfx.compression.selection.width_choices import SUPERNET
from gfx.errors import PreconditionError, RecipeError
from support.zoo_small import SMALL, small

EXAMPLE = torch.zeros(1, 3, 8, 8)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.Conv2d(8, 3, 1))


def noted(model, example=EXAMPLE, **fields):
    return gfx.apply({"passes": [{"widths": fields}]}, model, example)


def test_a_supernet_has_the_widths_that_were_noted():
    made = noted(net(), step=4, at_least=0.5)
    assert gfx.supernet(made).widths == {"0": (8, 12, 16), "2": (4, 8)}
    assert gfx.supernet(noted(net(), values={"0": [0.25, 1.0]})).widths["0"] == (4, 16)
    report = gfx.report(made)
    assert report.passes[0].details["widths"] == {"0": [8, 12, 16], "2": [4, 8]}
    assert [skip.node for skip in report.passes[0].skips] == ["0.in", "3"]
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(made(x), net()(x))


def test_widths_go_with_the_file_and_with_passes_that_cut_nothing(tmp_path):
    recipe = {"passes": ["sort_channels", {"widths": {"step": 4}}, "distill_taps", "strip_taps"]}
    made = gfx.apply(recipe, net(), EXAMPLE)
    gfx.save(made, tmp_path / "net.gfx")
    again = gfx.supernet(tmp_path / "net.gfx")
    assert again.widths == gfx.supernet(made).widths == {"0": (4, 8, 12, 16), "2": (4, 8)}


def test_widths_of_channels_that_have_gone_are_refused():
    made = noted(net(), step=4)
    cut = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, made, EXAMPLE)
    with pytest.raises(gfx.InputError, match="the file's widths of 0 are not of this net; give"):
        gfx.supernet(cut)
    assert gfx.supernet(cut, widths=[4, 8]).widths == {"0": (4, 8)}


def test_a_net_without_a_choice_is_refused():
    with pytest.raises(PreconditionError, match=r"widths: no group has a choice of widths: "):
        noted(nn.Sequential(nn.Conv2d(3, 3, 1)))
    with pytest.raises(RecipeError, match="widths: step"):
        noted(net(), step=0)
    with pytest.raises(RecipeError, match="a share is at most"):
        noted(net(), values={"0": [1.5]})


@pytest.mark.parametrize("name", SMALL)
def test_every_reference_generator_has_widths(name):
    model, inputs = small(name)
    widths = {"widths": {"values": {"*": [0.5, 1.0]}, "min_channels": 2}}
    made = gfx.apply({"passes": ["fold_parametrizations", widths]}, model, inputs)
    assert gfx.supernet(made).widths.keys() <= made.meta[SUPERNET]["widths"].keys()
