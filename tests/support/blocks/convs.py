"""Convolutions as modules: plain, transposed, grouped, depthwise, padded, of any rank."""

from math import gcd
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from support.blocks.base import Block, Plain, Site, act, conv, deconv, moved, spec
from support.blocks.norms import norm


@spec
class Conv(Block):
    """Conv, norm, activation. A stride of 2 is taken only while the image is larger than 4."""

    ranks: ClassVar[tuple[int, ...]] = (1, 2, 3)

    out: int = 4
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    bias: bool = True
    norm: str = "none"
    act: str = "none"
    padding_mode: str = "zeros"

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        stride = self.stride if site.size > 4 else 1
        groups = gcd(self.groups, site.channels, self.out)
        layer = conv(site.rank)(
            site.channels,
            self.out,
            self.kernel,
            stride,
            self.dilation * (self.kernel // 2),
            self.dilation,
            groups,
            self.bias,
            self.padding_mode if site.rank < 3 else "zeros",
        )
        after = norm(self.norm, self.out, site.rank) + act(self.act, self.out)
        return Plain(layer, *after), moved(site, self.out, -(-site.size // stride))


@spec
class Deconv(Block):
    """Transposed conv that doubles an image smaller than 16, else keeps its size."""

    ranks: ClassVar[tuple[int, ...]] = (1, 2, 3)

    out: int = 4
    groups: int = 1
    bias: bool = True
    norm: str = "none"
    act: str = "none"

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        kernel, stride = (4, 2) if site.size < 16 and site.rank < 3 else (3, 1)
        groups = gcd(self.groups, site.channels, self.out)
        layer = deconv(site.rank)(
            site.channels, self.out, kernel, stride, 1, groups=groups, bias=self.bias
        )
        after = norm(self.norm, self.out, site.rank) + act(self.act, self.out)
        return Plain(layer, *after), moved(site, self.out, site.size * stride)


@spec
class Separable(Block):
    """Depthwise conv with a channel multiplier, a norm, then a pointwise conv."""

    ranks: ClassVar[tuple[int, ...]] = (1, 2, 3)

    out: int = 4
    multiplier: int = 1
    norm: str = "none"
    transposed: bool = False

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        kind = deconv(site.rank) if self.transposed else conv(site.rank)
        wide = site.channels * self.multiplier
        depthwise = kind(site.channels, wide, 3, padding=1, groups=site.channels)
        last = conv(site.rank)(wide, self.out, 1)
        return Plain(depthwise, *norm(self.norm, wide, site.rank), last), moved(site, self.out)


@spec
class ReflectConv(Block):
    """Reflection pad, then a valid conv."""

    out: int = 4

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        layers = [nn.ReflectionPad2d(1), nn.Conv2d(site.channels, self.out, 3), nn.ReLU()]
        return Plain(*layers), moved(site, self.out)


@spec
class Subclass(Block):
    """A subclass of Conv2d with a forward of its own: equalised or standardised weights."""

    out: int = 4
    standardised: bool = False

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        kind = _Standardised if self.standardised else _Equalised
        return Plain(kind(site.channels, self.out, 3, padding=1)), moved(site, self.out)


class _Equalised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        gain = (2 / (self.in_channels * 9)) ** 0.5
        return F.conv2d(x, self.weight * gain, self.bias, self.stride, self.padding)


class _Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
        spread = weight.pow(2).mean(dim=(1, 2, 3), keepdim=True).sqrt() + 1e-3
        return self._conv_forward(x, weight / spread, self.bias)
