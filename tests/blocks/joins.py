"""Sharing and skips: one conv twice, residuals, dense blocks, U-Nets, the input again."""

import torch
from torch import Tensor, nn

from blocks.base import Block, Chain, Layer, Plain, Site, act, chain, moved, resized, spec
from blocks.convs import Conv


@spec
class Shared(Block):
    """One conv called twice in a row."""

    act: str = "none"

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        conv = nn.Conv2d(site.channels, site.channels, 3, padding=1)
        return Plain(conv, *act(self.act, site.channels), conv), site


@spec
class Residual(Block):
    """x + f(x); f ends in a conv back to x's channels and size."""

    inner: tuple[Block, ...] = ()
    how: str = "add"  # add | iadd | gate

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        inner, end = chain(self.inner, site)
        return _Residual(inner, nn.Conv2d(end.channels, site.channels, 1), site, self.how), site


class _Residual(Layer):
    def __init__(self, inner: Chain, last: nn.Module, site: Site, how: str) -> None:
        super().__init__()
        self.inner, self.last, self.size, self.how = inner, last, site.size, how

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        y = self.last(resized(self.inner(x, image, second), self.size))
        if self.how == "gate":
            return x * torch.sigmoid(y)
        if self.how == "iadd":
            y += x
            return y
        return x + y


@spec
class Concat(Block):
    """cat([x, f(x)]): a dense block, or a U-Net when f goes down and up again."""

    inner: tuple[Block, ...] = (Conv(),)

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        inner, end = chain(self.inner, site)
        return _Concat(inner, site.size), moved(site, site.channels + end.channels)


class _Concat(Layer):
    def __init__(self, inner: Chain, size: int) -> None:
        super().__init__()
        self.inner, self.size = inner, size

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        return torch.cat([x, resized(self.inner(x, image, second), self.size)], 1)


@spec
class InputSkip(Block):
    """Joins the first input to the features: concatenated, or added through a 1x1 conv."""

    how: str = "cat"  # cat | add

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        if not site.image:
            return Plain(), site
        layer = _InputSkip(site, self.how)
        return layer, moved(site, site.channels + (site.image if self.how == "cat" else 0))


class _InputSkip(Layer):
    def __init__(self, site: Site, how: str) -> None:
        super().__init__()
        self.size = site.size
        self.conv = nn.Conv2d(site.image, site.channels, 1) if how == "add" else None

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        small = resized(image, self.size)
        return torch.cat((x, small), dim=1) if self.conv is None else x + self.conv(small)
