"""Convolutions: plain, transposed, grouped, depthwise, padded, functional."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.base import Block, Layer, Plain, Site, act, moved, norm, spec


@spec
class Conv(Block):
    """Conv, norm, activation. A stride of 2 is taken only while the image is larger than 4."""

    out: int = 4
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    bias: bool = True
    norm: str = "none"
    act: str = "none"

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        stride = self.stride if site.size > 4 else 1
        groups = self.groups if site.channels % self.groups == 0 else 1
        conv = nn.Conv2d(
            site.channels,
            self.out,
            self.kernel,
            stride,
            self.dilation * (self.kernel // 2),
            self.dilation,
            groups,
            self.bias,
        )
        after = norm(self.norm, self.out) + act(self.act, self.out)
        return Plain(conv, *after), moved(site, self.out, -(-site.size // stride))


@spec
class Deconv(Block):
    """Transposed conv that doubles an image smaller than 16, else keeps its size."""

    out: int = 4
    groups: int = 1
    bias: bool = True
    norm: str = "none"
    act: str = "none"

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        kernel, stride = (4, 2) if site.size < 16 else (3, 1)
        groups = self.groups if site.channels % self.groups == 0 else 1
        conv = nn.ConvTranspose2d(
            site.channels, self.out, kernel, stride, 1, groups=groups, bias=self.bias
        )
        after = norm(self.norm, self.out) + act(self.act, self.out)
        return Plain(conv, *after), moved(site, self.out, site.size * stride)


@spec
class Separable(Block):
    """Depthwise conv with a channel multiplier, a norm, then a pointwise conv."""

    out: int = 4
    multiplier: int = 1
    norm: str = "none"
    transposed: bool = False

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        kind = nn.ConvTranspose2d if self.transposed else nn.Conv2d
        wide = site.channels * self.multiplier
        depthwise = kind(site.channels, wide, 3, padding=1, groups=site.channels)
        layers = [depthwise, *norm(self.norm, wide), nn.Conv2d(wide, self.out, 1)]
        return Plain(*layers), moved(site, self.out)


@spec
class ReflectConv(Block):
    """Reflection pad, then a valid conv."""

    out: int = 4

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        layers = [nn.ReflectionPad2d(1), nn.Conv2d(site.channels, self.out, 3), nn.ReLU()]
        return Plain(*layers), moved(site, self.out)


@spec
class FunctionalConv(Block):
    """F.conv2d on a parameter, with an equalised learning rate's gain."""

    out: int = 4

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        return _FunctionalConv(site.channels, self.out), moved(site, self.out)


class _FunctionalConv(Layer):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, channels, 3, 3))
        self.bias = nn.Parameter(torch.empty(out))

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        return F.conv2d(x, self.weight * 0.5, self.bias, padding=1)
