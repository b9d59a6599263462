"""Functional convolutions on tensors: computed weights, blur kernels, StyleGAN2's modulation."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from support.blocks.base import Block, Layer, Site, Style, moved, spec


@spec
class FunctionalConv(Block):
    """F.conv2d on a parameter times an equalised learning rate's gain."""

    out: int = 4
    how: str = "plain"  # plain | transposed | linear (a 1x1 conv as F.linear, channels last)

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        return _FunctionalConv(site.channels, self), moved(site, self.out)


class _FunctionalConv(Layer):
    def __init__(self, channels: int, spec: FunctionalConv) -> None:
        super().__init__()
        self.how = spec.how
        shape = (spec.out, channels, *([] if spec.how == "linear" else [3, 3]))
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(spec.out))

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        if self.how == "linear":
            x = F.linear(x.permute(0, 2, 3, 1), self.weight, self.bias)
            return x.permute(0, 3, 1, 2).contiguous()
        if self.how == "transposed":
            weight = self.weight.transpose(0, 1).flip(2, 3) * 0.5
            return F.conv_transpose2d(x, weight, self.bias, padding=1)
        return F.conv2d(x, self.weight * 0.5, self.bias, padding=1)


@spec
class Blur(Block):
    """A fixed kernel for every channel: a buffer for each, one expanded, or one repeated."""

    how: str = "buffer"  # buffer | expand | repeat | literal

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        return _Blur(site.channels, self.how), site


class _Blur(Layer):
    def __init__(self, channels: int, how: str) -> None:
        super().__init__()
        self.channels, self.how = channels, how
        many = channels if how == "buffer" else 1
        self.register_buffer("kernel", torch.empty(many, 1, 3, 3))

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        channels = x.size(1)
        if self.how == "expand":
            kernel = self.kernel.expand(channels, -1, -1, -1)
        elif self.how == "repeat":
            kernel = self.kernel.repeat(channels, 1, 1, 1)
        elif self.how == "literal":
            channels = self.channels
            kernel = self.kernel.expand(self.channels, 1, 3, 3)
        else:
            return F.conv2d(x, self.kernel, padding=1, groups=self.channels)
        return F.conv2d(x, kernel, padding=1, groups=channels)


@spec
class Modulated(Block):
    """StyleGAN2's convolution: styles scale the weights, the batch is folded into the groups."""

    out: int = 4
    demodulate: bool = True
    blur: bool = False  # upsampling by a transposed convolution, then a blur
    noise: bool = False

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        grown = self.blur and site.size < 16
        return _Modulated(site, self, grown), moved(site, self.out, site.size * (1 + grown))


class _Modulated(Layer):
    def __init__(self, site: Site, spec: Modulated, grown: bool) -> None:
        super().__init__()
        self.channels, self.out, self.grown = site.channels, spec.out, grown
        self.demodulate = spec.demodulate
        self.style = Style(site, site.channels)
        self.weight = nn.Parameter(torch.empty(1, spec.out, site.channels, 3, 3))
        self.strength = nn.Parameter(torch.empty(1)) if spec.noise else None
        self.bias = nn.Parameter(torch.empty(1, spec.out, 1, 1))
        self.register_buffer("kernel", torch.empty(1, 1, 2, 2))
        size = site.size * (1 + grown)
        self.register_buffer("noise", torch.empty(1, 1, size, size))

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        batch, channels, height, width = x.shape
        style = self.style(x, second).view(batch, 1, channels, 1, 1)
        weight = self.weight * style
        if self.demodulate:
            scale = torch.rsqrt(weight.pow(2).sum([2, 3, 4]) + 1e-2)
            weight = weight * scale.view(batch, self.out, 1, 1, 1)
        x = x.reshape(1, batch * channels, height, width)
        if self.grown:
            weight = weight.transpose(1, 2).reshape(batch * channels, self.out, 3, 3)
            x = F.conv_transpose2d(x, weight, padding=0, stride=2, groups=batch)
            x = x.view(batch, self.out, x.size(2), x.size(3))
            kernel = self.kernel.repeat(self.out, 1, 1, 1)
            x = F.conv2d(x, kernel, groups=self.out)
        else:
            weight = weight.view(batch * self.out, channels, 3, 3)
            x = F.conv2d(x, weight, padding=1, groups=batch)
            x = x.view(batch, self.out, height, width)
        if self.strength is not None:
            x = x + self.strength * self.noise
        return F.leaky_relu(x + self.bias, 0.2) * 2**0.5
