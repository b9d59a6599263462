"""Made-up images lie in the range that the model tells, and the sentence about them says which."""

import pytest
import torch
from torch import nn

import gfx
from gfx.io.data import synthetic, synthetic_note


class Shifts(nn.Module):
    """Takes 0..1 and scales it itself."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, x):
        return self.conv(2 * x - 1)


NETS = {
    "sigmoid": (lambda: nn.Sequential(nn.Conv2d(3, 3, 3), nn.Sigmoid()), 0, 1, "as the Sigmoid"),
    "tanh": (lambda: nn.Sequential(nn.Conv2d(3, 3, 3), nn.Tanh()), -1, 1, "as the Tanh"),
    "shifts": (Shifts, 0, 1, "which shifts the model's input, tells"),
    "silent": (lambda: nn.Conv2d(3, 3, 3), -1, 1, "; images in [-1, 1], assumed"),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("example", [torch.zeros, torch.randn], ids=["constant", "normal"])
def test_made_up_images_lie_in_the_range_that_the_model_tells(name, example):
    make, low, high, why = NETS[name]
    torch.manual_seed(0)
    program = gfx.trace(make(), example(2, 3, 32, 32))
    for (image,) in synthetic(program, 3):
        assert low <= image.min() < low + 0.3 * (high - low)
        assert high >= image.max() > high - 0.3 * (high - low)
    assert why in synthetic_note(program, 3)


def test_the_range_of_the_example_comes_first():
    example = torch.rand(1, 3, 32, 32) * 0.5 + 0.25
    program = gfx.trace(NETS["tanh"][0](), example)
    ((image,),) = synthetic(program, 1)
    assert example.min() <= image.min() < image.max() <= example.max()
    assert synthetic_note(program, 1).endswith("were made up (seed 0)")
