"""Channels may go where they lie in one row with what stays."""

import pytest
import torch
from torch import nn

import gfx
from passes.channel_prune import ChannelPrune
from support.laws import staying
from support.oracle import assert_equal_outputs, zeroed


class Tokens(nn.Module):
    """Lays the channels of all tokens in one row, and reads them."""

    def __init__(self, lay) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(40, 3)
        self.gain = nn.Parameter(torch.randn(40))
        self.lay = lay

    def forward(self, x):
        return self.last((self.lay(self.first(x).relu()) * self.gain).tanh())


ROWS = {
    "flat": lambda x: x.flatten(1),
    "viewed": lambda x: x.view(x.shape[0], -1),
    "channels first": lambda x: x.transpose(1, 2).reshape(x.shape[0], 40),
    "there and back": lambda x: x.flatten(1).view(-1, 5, 8).reshape(-1, 40),
    "with their signs": lambda x: (x.flatten(1) + x.sign().flatten(1)) * 0.5,
}


@pytest.mark.parametrize("name", ROWS)
def test_channels_laid_out_along_with_the_tokens_of_an_input_are_free(name):
    torch.manual_seed(0)
    model, inputs = Tokens(ROWS[name]).double().eval(), torch.randn(2, 5, 3).double()
    program = gfx.trace(model, inputs)
    assert [(g.name, g.size) for g in gfx.channels(program).free] == [("first", 8)]
    original = program.copy().module
    prune = ChannelPrune(ratio=0.5, min_channels=1, importance="random", seed=3)
    kept = staying(prune.apply(program, gfx.Context()))
    assert_equal_outputs(zeroed(original, [inputs], kept), program.module(inputs))
