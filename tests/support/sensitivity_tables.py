"""A small generator of every stage, with an odd name, and what gfx.inspect finds in it."""

from functools import cache

import torch
from torch import Tensor, nn

import gfx
from gfx.sensitivity import Table

HOSTILE = "<script>alert(1)</script>"
NAMES = [HOSTILE, "block.conv1", "block.conv2", "down", "stem", "up"]


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(torch.relu(self.conv1(x)))


class Generator(nn.Module):
    """An encoder, a block and a decoder; one layer's name is a script."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.block = Block(2 * width)
        self.up = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1)
        self.add_module(HOSTILE, nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.down(torch.relu(self.stem(x))))
        x = torch.relu(self.up(self.block(x)))
        return torch.tanh(self.get_submodule(HOSTILE)(x))


def image() -> Tensor:
    """Draws an input, always the same."""
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def generator() -> Generator:
    """Makes the generator, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Generator().eval()


@cache
def table() -> Table:
    """Inspects the generator, once for all tests."""
    return gfx.inspect(generator(), image(), batches=1, tolerate=0.3)
