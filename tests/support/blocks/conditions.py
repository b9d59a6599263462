"""Features scaled by what else there is: styles, labels, maps, their own means, noise."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from support.blocks.base import (
    CLASSES,
    LABELS,
    MAP_CHANNELS,
    Block,
    Layer,
    Plain,
    Site,
    Style,
    moved,
    spec,
)


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
    chunked: bool = False  # one conv to 2 C, chunked, instead of two

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        if site.second != "map":
            return Plain(nn.InstanceNorm2d(site.channels)), site
        return _Spade(site, self), site


class _Spade(Layer):
    def __init__(self, site: Site, spec: Spade) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(site.channels, affine=False)
        self.shared = nn.Sequential(nn.Conv2d(MAP_CHANNELS, spec.hidden, 3, padding=1), nn.ReLU())
        self.chunked = spec.chunked
        self.gain = nn.Conv2d(spec.hidden, site.channels * (1 + spec.chunked), 3, padding=1)
        self.bias = None if spec.chunked else nn.Conv2d(spec.hidden, site.channels, 3, padding=1)

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        hidden = self.shared(F.interpolate(second, size=x.size()[2:], mode="nearest"))
        if self.bias is None:
            gain, bias = torch.chunk(self.gain(hidden), 2, dim=1)
        else:
            gain, bias = self.gain(hidden), self.bias(hidden)
        return self.norm(x) * (1 + gain) + bias


@spec
class Noise(Block):
    """Adds a fixed one-channel noise map, scaled per channel, and a learned constant."""

    like: bool = False  # the map is as large as the features and all of one value

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        return _Noise(site, self.like), site


class _Noise(Layer):
    def __init__(self, site: Site, like: bool) -> None:
        super().__init__()
        self.like = like
        self.register_buffer("noise", torch.empty(1, 1, site.size, site.size))
        self.strength = nn.Parameter(torch.empty(1, site.channels, 1, 1))
        self.constant = nn.Parameter(torch.empty(site.channels, 1, 1))

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        noise = torch.ones_like(x[:, :1]) * 0.3 if self.like else self.noise
        return x + noise * self.strength + self.constant


@spec
class StyleNorm(Block):
    """AdaIN: gain and bias of an instance norm are one linear's output, cut in two."""

    cut: str = "chunk"  # chunk | view | split | slices

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        return _StyleNorm(site, self.cut), site


class _StyleNorm(Layer):
    def __init__(self, site: Site, cut: str) -> None:
        super().__init__()
        self.cut, self.channels = cut, site.channels
        self.norm = nn.InstanceNorm2d(site.channels)
        self.style = Style(site, 2 * site.channels)

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        style = self.style(x, second)
        if self.cut == "view":
            both = style.view(-1, 2, self.channels, 1, 1)
            return self.norm(x) * (both[:, 0] + 1.0) + both[:, 1]
        if self.cut == "chunk":
            gain, bias = style.unsqueeze(2).unsqueeze(3).chunk(2, 1)
        elif self.cut == "split":
            gain, bias = style[..., None, None].split(self.channels, dim=1)
        else:
            gain, bias = style[:, : self.channels], style[:, self.channels :]
            gain, bias = gain[:, :, None, None], bias[:, :, None, None]
        return self.norm(x) * (1 + gain) + bias


@spec
class TimeResidual(Block):
    """A diffusion model's residual block: group norms, and an embedding that shifts in between."""

    out: int = 4
    scaled: bool = False  # the embedding is twice as wide: a scale and a shift

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        return _TimeResidual(site, self), moved(site, self.out)


class _TimeResidual(Layer):
    def __init__(self, site: Site, spec: TimeResidual) -> None:
        super().__init__()
        first = nn.GroupNorm(site.channels if site.channels % 2 else 2, site.channels)
        self.first = nn.Sequential(
            first, nn.SiLU(), nn.Conv2d(site.channels, spec.out, 3, padding=1)
        )
        self.embed = Style(site, spec.out * (1 + spec.scaled))
        self.norm, self.scaled = nn.GroupNorm(2, spec.out), spec.scaled
        self.last = nn.Conv2d(spec.out, spec.out, 3, padding=1)
        same = site.channels == spec.out
        self.skip = nn.Identity() if same else nn.Conv2d(site.channels, spec.out, 1)

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        embedded = F.silu(self.embed(x, second))[..., None, None]
        h = self.first(x)
        if self.scaled:
            scale, shift = embedded.chunk(2, dim=1)
            h = self.last(F.silu(self.norm(h) * (1 + scale) + shift))
        else:
            h = self.last(F.silu(self.norm(h + embedded)))
        return self.skip(x) + h


@spec
class ClassActivation(Block):
    """U-GAT-IT: the weight of a linear on the pooled features scales the features."""

    most: bool = False  # a second linear on their maxima

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        return _ClassActivation(site.channels, self.most), site


class _ClassActivation(Layer):
    def __init__(self, channels: int, most: bool) -> None:
        super().__init__()
        self.mean = nn.Linear(channels, 1, bias=False)
        self.most = nn.Linear(channels, 1, bias=False) if most else None
        self.mix = nn.Conv2d(channels * (1 + most), channels, 1)
        for layer in (self.mean, self.most or self.mean):
            layer.bare = True  # its weight is read too, so nothing may compute it

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        pooled = F.adaptive_avg_pool2d(x, 1).view(x.shape[0], -1)
        parts = [
            x * self.mean.weight.unsqueeze(2).unsqueeze(3) * self.mean(pooled)[..., None, None]
        ]
        if self.most is not None:
            logit = self.most(F.adaptive_max_pool2d(x, 1).flatten(1))
            parts.append(x * self.most.weight[:, :, None, None] + logit.view(-1, 1, 1, 1))
        return F.relu(self.mix(torch.cat(parts, 1)))


@spec
class PooledConcat(Block):
    """Features beside themselves times their means and maxima."""

    spatial: bool = False  # CBAM: mean and maximum over the channels make a mask

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        layer = _PooledConcat(self.spatial)
        return layer, site if self.spatial else moved(site, 2 * site.channels)


class _PooledConcat(Layer):
    def __init__(self, spatial: bool) -> None:
        super().__init__()
        self.mask = nn.Conv2d(2, 1, 3, padding=1) if spatial else None

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        if self.mask is not None:
            both = torch.cat([x.mean(1, keepdim=True), x.norm(dim=1, keepdim=True)], 1)
            return x * torch.sigmoid(self.mask(both))
        mean, most = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return torch.cat([x * mean, x * most], 1)
