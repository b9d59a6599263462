"""What stays whole says why, also where the reason lies operations back."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gfx

PICKED = "picks it out by its position"


class Beside(nn.Module):
    """Adds what is made of two channels to a layer of as many channels."""

    def __init__(self, make) -> None:
        super().__init__()
        self.make = make
        self.two = nn.Conv2d(3, 2, 1)
        wide = make(torch.zeros(1, 2, 4, 4)).shape[1]
        self.side, self.last = nn.Conv2d(3, wide, 1), nn.Conv2d(wide, 3, 1)

    def forward(self, x):
        return self.last(self.side(x).tanh() + self.make(self.two(x)))


def reasons_beside(change):
    """Maps the groups of a program in which a change meets what it changes to their reasons."""
    program = gfx.trace(Beside(change).eval(), torch.zeros(1, 3, 4, 4))
    return {g.name: str(g.pinned) for g in gfx.channels(program) if g.producers}


REJOINED = {
    "chunked": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "split": lambda x: torch.cat(torch.split(x, 1, 1), 1),
    "unbound": lambda x: torch.stack(x.unbind(1), 1),
    "selected": lambda x: torch.stack((x[:, 1], x[:, 0]), dim=1),
    "sliced": lambda x: torch.cat((x[:, 1:], x[:, :1]), dim=1),
    "narrowed": lambda x: torch.cat((x.narrow(1, 1, 1), x.narrow(1, 0, 1)), dim=1),
    "three": lambda x: torch.cat((x[:, 1:], x[:, :1], x[:, 1:].relu()), dim=1),
    "repeated after": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1).repeat(1, 2, 1, 1),
    "padded after": lambda x: F.pad(torch.cat(x.chunk(2, 1)[::-1], 1), (0, 0, 0, 0, 1, 1)),
    "shuffled after": lambda x: F.pixel_unshuffle(torch.cat(x.chunk(2, 1), 1), 2).repeat(
        1, 1, 2, 2
    ),
    "pooled after": lambda x: torch.cat(x.chunk(2, 1), 1).mean((2, 3), keepdim=True),
}


@pytest.mark.parametrize("name", REJOINED)
def test_channels_that_are_picked_out_and_rejoined_say_so(name):
    reasons = reasons_beside(REJOINED[name])
    assert PICKED in reasons["two"]
    assert PICKED in reasons["side"]


MIXED = {
    "takes the sort": lambda x: x.sort(1)[0],
    "takes the cumsum": lambda x: x.cumsum(1),
    "transforms it": lambda x: torch.fft.fft(x, dim=1).real,
    "makes a single channel": lambda x: torch.cat(
        [F.pixel_shuffle(x.repeat(1, 2, 1, 1), 2)] * 2, 1
    )[:, :, ::2, ::2],
    "leaves a single channel": lambda x: torch.cat([F.glu(x, 1)] * 2, 1),
}


@pytest.mark.parametrize("why", MIXED)
def test_channels_that_something_mixes_say_so(why):
    reasons = reasons_beside(MIXED[why])
    assert why in reasons["two"]
    assert why in reasons["side"]
