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


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.tail = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1))

    def forward(self, x):
        x = self.stem(x)
        return self.tail(x + self.block(x))


def test_a_supernet_has_the_forms_and_the_blocks_that_were_noted(tmp_path):
    made = noted(Residual(), step=4, forms=["block.*"], skip=True)
    net = gfx.supernet(made)
    assert net.options == {
        "block.0.form": ("separable", "dense"),
        "block.skip": ("skipped", "kept"),
    }
    assert net.widths == {"stem": (4, 8), "block.0": (4, 8)}
    step = gfx.report(made).passes[0]
    assert step.details["choices"] == {name: list(each) for name, each in net.options.items()}
    assert {skip.node: skip.why for skip in step.skips} == {
        "stem.in": "its channels are those of the model's input x",
        "tail": "where does not name it",
        "stem": "where does not name it",
        "block.2": "a 1x1 kernel has nothing to separate",
    }
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(made(x), Residual()(x))
    gfx.save(made, tmp_path / "net.gfx")
    assert gfx.supernet(tmp_path / "net.gfx").choices == net.choices
    # what has a choice is left alone by those that come later
    again = gfx.supernet(made, forms="separable", skip=True)
    assert [name for name in again.options if "stem" not in name] == list(net.options)


def test_forms_alone_are_a_choice_too():
    model = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1))
    net = gfx.supernet(noted(model, forms="separable"))
    assert not net.widths
    assert [*net.options] == ["0.form", "1.form"]
    assert net.cost(net.smallest()).macs.exact < net.cost().macs.exact


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"forms": "dense"}, "widths: forms: 'dense' is no form; give separable"),
        ({"forms": {"norm": "layer"}}, "widths: forms: norm is 'layer'; give one of none, ins"),
        ({"skip": ["blok"]}, "widths: skip: no residual block is named 'blok'; did you mean 'bl"),
        ({"skip": 1}, "widths: skip: true, false or a list of blocks is expected"),
    ],
)
def test_forms_that_cannot_be_read_are_refused(fields, said):
    with pytest.raises(RecipeError, match=said):
        noted(Residual(), **fields)


def test_forms_that_are_fitted_need_data():
    with pytest.raises(RecipeError, match="widths needs data to look at"):
        noted(Residual(), forms={"init": "data"})
    recipe = {"passes": [{"widths": {"forms": {"init": "data"}}}]}
    x = torch.randn(16, 3, 8, 8)
    made = gfx.apply(recipe, Residual(), EXAMPLE, data=[x])
    assert gfx.supernet(made).options
