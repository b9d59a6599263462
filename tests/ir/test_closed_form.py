"""What a layer returns, told without running it, is what it returns."""

import pytest
import torch
from torch import nn

from gfx.ir.modules import ChannelMask, LearnedMask, Penalty, Tap, masked_layer
from gfx.ir.shapes.closed_form import infer_shape, returns_input

IMAGE, SOUND = (2, 8, 9, 7), (2, 8, 11)
CERTAIN = [
    (nn.Conv2d(8, 6, 3, stride=2, padding=1), IMAGE),
    (nn.Conv2d(8, 16, (3, 1), dilation=2, groups=4, bias=False), IMAGE),
    (nn.Conv1d(8, 4, 5), SOUND),
    (nn.Conv3d(8, 4, 3, padding=1), (1, 8, 4, 4, 4)),
    (nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1), IMAGE),
    (nn.ConvTranspose2d(8, 6, 3, stride=2, output_padding=1, groups=2), IMAGE),
    (nn.BatchNorm1d(8), SOUND),
    (nn.BatchNorm1d(8), (4, 8)),
    (nn.BatchNorm2d(8, affine=False), IMAGE),
    (nn.InstanceNorm2d(8), IMAGE),
    (nn.InstanceNorm2d(8, affine=True, track_running_stats=True), IMAGE),
    (nn.GroupNorm(4, 8), IMAGE),
    (nn.LayerNorm(7), IMAGE),
    (nn.LayerNorm((9, 7)), IMAGE),
    (nn.LeakyReLU(0.2), IMAGE),
    (nn.GELU(), (8,)),
    (nn.Tanh(), IMAGE),
    (masked_layer(nn.Conv2d(8, 6, 3)), IMAGE),
    (masked_layer(nn.ConvTranspose2d(8, 6, 3, stride=2)), IMAGE),
    (ChannelMask(8), IMAGE),
    (LearnedMask(8), IMAGE),
]
# what is unusual or wrong is left to a run, which finds out
UNCERTAIN = [
    (nn.Conv2d(8, 6, 3, padding="same"), torch.ones(IMAGE)),
    (nn.Conv2d(8, 6, 3, padding=1, padding_mode="reflect"), torch.ones(IMAGE)),
    (nn.Conv2d(8, 6, 3), torch.ones(8, 9, 7)),
    (nn.Conv2d(4, 6, 3), torch.ones(IMAGE)),
    (nn.Conv2d(8, 6, 3).double(), torch.ones(IMAGE)),
    (nn.Conv2d(8, 6, 3), torch.ones(IMAGE).to(memory_format=torch.channels_last)),
    (nn.Conv2d(8, 6, 13), torch.ones(IMAGE)),
    (nn.ConvTranspose2d(4, 6, 3), torch.ones(IMAGE)),
    (nn.ConvTranspose2d(8, 6, 3, stride=1, output_padding=1), torch.ones(IMAGE)),
    (nn.BatchNorm2d(4), torch.ones(IMAGE)),
    (nn.BatchNorm2d(8), torch.ones(SOUND)),
    (nn.BatchNorm2d(8, track_running_stats=False), torch.ones(2, 8, 1, 1)),
    (nn.InstanceNorm2d(8), torch.ones(2, 8, 1, 1)),
    (nn.InstanceNorm2d(4, affine=True), torch.ones(IMAGE)),
    (nn.GroupNorm(2, 4), torch.ones(IMAGE)),
    (nn.LayerNorm(8), torch.ones(IMAGE)),
    (nn.ReLU(), torch.ones(IMAGE, dtype=torch.int64)),
    (nn.ReLU(inplace=True), torch.ones(IMAGE)),
    (nn.Softmax(dim=1), torch.ones(IMAGE)),
    (ChannelMask(3), torch.ones(IMAGE)),
    (ChannelMask(8), torch.ones(IMAGE, dtype=torch.int64)),
    (LearnedMask(8).double(), torch.ones(IMAGE)),
]


@pytest.mark.parametrize(("layer", "shape"), CERTAIN, ids=repr)
def test_the_shape_foretold_is_that_of_a_run(layer, shape):
    x = torch.randn(shape)
    result = layer.eval()(x)
    assert infer_shape(layer, (x,)) == result.shape
    assert result.is_contiguous()
    assert result.dtype == x.dtype


@pytest.mark.parametrize(("layer", "x"), UNCERTAIN, ids=lambda v: type(v).__name__)
def test_what_is_unusual_is_not_foretold(layer, x):
    assert infer_shape(layer, (x,)) is None


def test_a_bias_that_does_not_fit_is_left_to_a_run():
    layer = nn.Conv2d(8, 6, 3)
    layer.bias = nn.Parameter(torch.zeros(5))
    assert infer_shape(layer, (torch.ones(IMAGE),)) is None


def test_a_layer_with_a_hook_is_left_to_a_run():
    layer = nn.Conv2d(8, 6, 3)
    layer.register_forward_hook(lambda module, args, result: result.sum())
    assert infer_shape(layer, (torch.ones(IMAGE),)) is None


def test_under_autocast_nothing_is_foretold():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert infer_shape(nn.Conv2d(8, 6, 3), (torch.ones(IMAGE),)) is None


def test_only_elementwise_layers_in_place_return_their_input():
    x = torch.ones(IMAGE)
    assert returns_input(nn.ReLU(inplace=True), (x,))
    assert not returns_input(nn.ReLU(), (x,))
    assert not returns_input(nn.Dropout(inplace=True), (x,))


def test_the_shape_of_what_a_mask_at_several_positions_gives_is_foretold():
    x, mask = torch.ones(2, 5, 3), ChannelMask(4)
    index = torch.tensor([0, -1, 2])
    assert infer_shape(mask, (x, 2, index)) == mask(x, 2, index).shape == (2, 5, 3)
    assert infer_shape(mask, (x, -1, index)) == (2, 5, 3)
    assert infer_shape(mask, (x, 1, index)) is None
    assert infer_shape(mask, (x, 3, index)) is None


def test_taps_and_penalties_return_what_they_are_given():
    x = torch.ones(1, 2, 3, 3, dtype=torch.int64)
    assert returns_input(Tap(), (x,))
    assert returns_input(Penalty(), (x,))
