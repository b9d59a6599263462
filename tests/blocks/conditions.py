"""Attention, squeeze-excite, conditional norms, SPADE, noise."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.base import CLASSES, LABELS, MAP_CHANNELS, Block, Layer, Plain, Site, spec


@spec
class Attention(Block):
    """Self-attention as in SAGAN: view, bmm, softmax, a learned gain, a skip."""

    inner: int = 2
    project: bool = False  # values in `inner` channels and a conv back, instead of C straight

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        return _Attention(site.channels, self), site


class _Attention(Layer):
    def __init__(self, channels: int, spec: Attention) -> None:
        super().__init__()
        values = spec.inner if spec.project else channels
        self.query = nn.Conv2d(channels, spec.inner, 1)
        self.key = nn.Conv2d(channels, spec.inner, 1)
        self.value = nn.Conv2d(channels, values, 1)
        self.back = nn.Conv2d(values, channels, 1) if spec.project else None
        self.gain = nn.Parameter(torch.empty(1))

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        n, _, h, w = x.size()
        query = self.query(x).view(n, -1, h * w).permute(0, 2, 1)
        weight = torch.softmax(torch.bmm(query, self.key(x).view(n, -1, h * w)), dim=-1)
        value = self.value(x)
        out = torch.bmm(value.view(n, -1, h * w), weight.permute(0, 2, 1))
        out = out.view(value.size())
        return x + self.gain * (out if self.back is None else self.back(out))


@spec
class SqueezeExcite(Block):
    """Gates channels by a small network on their means."""

    inner: int = 2
    linear: bool = True

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        return _SqueezeExcite(site.channels, self), site


class _SqueezeExcite(Layer):
    def __init__(self, channels: int, spec: SqueezeExcite) -> None:
        super().__init__()
        self.linear = spec.linear
        if spec.linear:
            first, last = nn.Linear(channels, spec.inner), nn.Linear(spec.inner, channels)
        else:
            first = nn.Conv2d(channels, spec.inner, 1)
            last = nn.Conv2d(spec.inner, channels, 1)
        self.gate = nn.Sequential(first, nn.ReLU(), last, nn.Sigmoid())
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        if not self.linear:
            return x * self.gate(self.pool(x))
        return x * self.gate(x.mean([2, 3])).view(x.size(0), -1, 1, 1)


@spec
class ConditionalNorm(Block):
    """BatchNorm whose gain and bias come from the label or class; plain without either."""

    chunked: bool = False  # one layer to 2 C, chunked, instead of two layers

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        if site.second not in ("label", "class"):
            return Plain(nn.BatchNorm2d(site.channels)), site
        return _ConditionalNorm(site, self.chunked), site


class _ConditionalNorm(Layer):
    def __init__(self, site: Site, chunked: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(site.channels, affine=False)
        self.channels, self.chunked = site.channels, chunked

        def source(out: int) -> nn.Module:
            return nn.Linear(LABELS, out) if site.second == "label" else nn.Embedding(CLASSES, out)

        self.both = source(site.channels * 2) if chunked else None
        self.gain = None if chunked else source(site.channels)
        self.bias = None if chunked else source(site.channels)

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        if self.both is not None:
            gain, bias = self.both(second).chunk(2, 1)
        else:
            gain, bias = self.gain(second), self.bias(second)
        gain = gain.view(-1, self.channels, 1, 1)
        return self.norm(x) * (1 + gain) + bias.unsqueeze(2).unsqueeze(3)


@spec
class Spade(Block):
    """Norm whose gain and bias are convolved from the segmentation map; plain without one."""

    hidden: int = 4

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        if site.second != "map":
            return Plain(nn.InstanceNorm2d(site.channels)), site
        return _Spade(site, self.hidden), site


class _Spade(Layer):
    def __init__(self, site: Site, hidden: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(site.channels, affine=False)
        self.shared = nn.Sequential(nn.Conv2d(MAP_CHANNELS, hidden, 3, padding=1), nn.ReLU())
        self.gain = nn.Conv2d(hidden, site.channels, 3, padding=1)
        self.bias = nn.Conv2d(hidden, site.channels, 3, padding=1)

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        hidden = self.shared(F.interpolate(second, size=x.size()[2:], mode="nearest"))
        return self.norm(x) * (1 + self.gain(hidden)) + self.bias(hidden)


@spec
class Noise(Block):
    """Adds a fixed one-channel noise map, scaled per channel, and a learned constant."""

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        return _Noise(site), site


class _Noise(Layer):
    def __init__(self, site: Site) -> None:
        super().__init__()
        self.register_buffer("noise", torch.empty(1, 1, site.size, site.size))
        self.strength = nn.Parameter(torch.empty(1, site.channels, 1, 1))
        self.constant = nn.Parameter(torch.empty(site.channels, 1, 1))

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        return x + self.noise * self.strength + self.constant
