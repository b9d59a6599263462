"""Small generators for tasks: of images, noise, classes and attributes, 8 pixels large."""

import torch
from torch import nn

import gfx
from gfx.ir.program import Program

__all__ = ["conditional", "dcgan", "editor", "translator", "upscaler"]


def translator() -> Program:
    """From image to image."""
    net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh())
    return gfx.trace(net, torch.zeros(1, 3, 8, 8))


def dcgan() -> Program:
    """From noise to image."""
    return gfx.trace(gfx.zoo.build("dcgan", ngf=4, image_size=8))


def upscaler() -> Program:
    """From 4 pixels to 8."""
    net = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2), nn.Sigmoid())
    return gfx.trace(net, torch.zeros(1, 3, 4, 4))


class Conditional(nn.Module):
    """Noise and a class to 8 pixels."""

    def __init__(self, one_hot):
        super().__init__()
        self.classes = nn.Linear(3, 4) if one_hot else nn.Embedding(3, 4)
        self.up = nn.Linear(4, 192)

    def forward(self, z, c):
        return torch.tanh(self.up(z + self.classes(c))).view(-1, 3, 8, 8)


class Editor(nn.Module):
    """Image and attributes to image."""

    def __init__(self, count):
        super().__init__()
        self.mix = nn.Conv2d(3 + count, 3, 1)
        self.count = count

    def forward(self, x, c):
        planes = c.view(-1, self.count, 1, 1).expand(-1, -1, 8, 8)
        return torch.tanh(self.mix(torch.cat((x, planes), 1)))


def conditional(one_hot: bool = False) -> Program:
    """From noise and one of three classes to image."""
    c = torch.eye(3)[:1] if one_hot else torch.zeros(1, dtype=torch.int64)
    return gfx.trace(Conditional(one_hot), (torch.randn(1, 4), c))


def editor(count: int) -> Program:
    """From image and attributes to image."""
    return gfx.trace(Editor(count), (torch.zeros(1, 3, 8, 8), torch.zeros(1, count)))
