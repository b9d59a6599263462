"""Branches beside one another, single channels picked out, weights and norms used twice."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from support.blocks.base import Block, Layer, Plain, Site, conv, moved, spec
from support.blocks.norms import norm


@spec
class Branches(Block):
    """Convolutions beside one another: chosen between, all joined, or joined one after another."""

    ranks: ClassVar[tuple[int, ...]] = (1, 2, 3)

    out: int = 4
    # select (SKNet: a softmax over three) | cat | stack (summed) | most | dense (each reads all)
    how: str = "select"

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        wide = {"cat": 3 * self.out, "dense": site.channels + 2 * self.out}.get(self.how, self.out)
        return _Branches(site, self), moved(site, wide)


class _Branches(Layer):
    def __init__(self, site: Site, spec: Branches) -> None:
        super().__init__()
        make, c, out = conv(site.rank), site.channels, spec.out
        self.how, self.rank, self.out = spec.how, site.rank, out
        into = (c, c + out) if spec.how == "dense" else (c, c, c)
        self.convs = nn.ModuleList(
            make(c, out, 3, padding=1 + i, dilation=1 + i) for i, c in enumerate(into)
        )
        if spec.how == "select":
            self.squeeze, self.excite = nn.Linear(out, 2), nn.Linear(2, 3 * out)

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        if self.how == "dense":
            for layer in self.convs:
                x = torch.cat([x, torch.relu(layer(x))], 1)
            return x
        parts = [layer(x) for layer in self.convs]
        if self.how == "cat":
            return torch.cat(parts, dim=1)
        both = torch.stack(parts, dim=1)
        if self.how == "stack":
            return both.sum(1)
        if self.how == "most":
            return both.amax(dim=1)
        pooled = sum(parts).mean([*range(2, 2 + self.rank)])
        gates = self.excite(F.relu(self.squeeze(pooled)))
        return (both * gates.view(-1, 3, self.out, *[1] * self.rank).softmax(dim=1)).sum(dim=1)


@spec
class Picked(Block):
    """Single channels picked out: as a gate, a factor, or doubled."""

    how: str = "gate"  # gate | last | double | select | number | unbind (all of them)

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        if site.channels < 3:
            return Plain(), site
        return _Picked(self.how, site.channels), moved(site, site.channels + (self.how == "double"))


class _Picked(Layer):
    def __init__(self, how: str, channels: int) -> None:
        super().__init__()
        self.how, self.channels = how, channels

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        if self.how == "gate":
            return x * torch.sigmoid(x[:, :1])
        if self.how == "last":
            return x * x.narrow(1, self.channels - 1, 1)
        if self.how == "select":
            return x * x.select(1, 1).tanh().unsqueeze(1)
        if self.how == "number":
            return x * x[:, -1][:, None].sigmoid()
        if self.how == "unbind":
            first, second, *_ = x.unbind(1)
            return x + torch.stack((first * second, second), 1)[:, :1]
        return torch.cat((x, x[:, -1:].relu()), dim=1)


@spec
class Tied(Block):
    """A weight that two layers use: back through the transposed one, or at two dilations."""

    out: int = 4
    how: str = "back"  # back | back_linear | dilated

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        return _Tied(site.channels, self), moved(site, self.out if self.how == "dilated" else 0)


class _Tied(Layer):
    def __init__(self, channels: int, spec: Tied) -> None:
        super().__init__()
        self.how = spec.how
        linear = spec.how == "back_linear"
        self.layer = nn.Linear(channels, spec.out) if linear else nn.Conv2d(channels, spec.out, 3)
        self.layer.bare = True  # its weight is read too, so nothing may compute it
        self.shift = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        if self.how == "back_linear":
            y = F.relu(self.layer(x.movedim(1, -1)))
            return x + F.linear(y, self.layer.weight.t(), self.shift).movedim(-1, 1)
        if self.how == "back":
            y = F.relu(self.layer(x))
            return F.conv_transpose2d(y, self.layer.weight, self.shift)
        wide = F.conv2d(x, self.layer.weight, padding=2, dilation=2)
        return self.layer(F.pad(x, (1, 1, 1, 1))) + wide


@spec
class Twice(Block):
    """One norm in two places: before a convolution, and on what it makes."""

    ranks: ClassVar[tuple[int, ...]] = (1, 2, 3)

    norm: str = "batch"

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        shared = norm(self.norm, site.channels, site.rank)
        layer = conv(site.rank)(site.channels, site.channels, 3, padding=1)
        return Plain(*shared, layer, *shared), site
