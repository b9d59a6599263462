"""Sharing and skips: one conv twice, residuals, dense blocks, U-Nets, the input again."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from support.blocks.base import (
    LABELS,
    Block,
    Chain,
    Layer,
    Plain,
    Site,
    act,
    chain,
    conv,
    moved,
    resized,
    spec,
)
from support.blocks.convs import Conv


@spec
class Shared(Block):
    """One conv called twice: in a row, or at two sizes whose results are added."""

    act: str = "none"
    pyramid: bool = False

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        conv = nn.Conv2d(site.channels, site.channels, 3, padding=1)
        if self.pyramid:
            return _Pyramid(conv), site
        return Plain(conv, *act(self.act, site.channels), conv), site


class _Pyramid(Layer):
    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        small = self.conv(nn.functional.avg_pool2d(x, 2))
        return self.conv(x) + resized(small, x)


@spec
class Residual(Block):
    """x + f(x); f ends in a conv back to x's channels and size."""

    ranks: ClassVar[tuple[int, ...]] = (1, 2, 3)

    inner: tuple[Block, ...] = ()
    how: str = "add"  # add | iadd | gate | scale (a learned factor per channel)

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        inner, end = chain(self.inner, site)
        last = conv(site.rank)(end.channels, site.channels, 1)
        return _Residual(inner, last, site, self.how), site


class _Residual(Layer):
    def __init__(self, inner: Chain, last: nn.Module, site: Site, how: str) -> None:
        super().__init__()
        self.inner, self.last, self.how = inner, last, how
        self.shape = (1, site.channels, *[1] * site.rank)
        self.scale = nn.Parameter(torch.empty(site.channels)) if how == "scale" else None

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        y = self.last(resized(self.inner(x, image, second), x))
        if self.scale is not None:
            return x + self.scale.view(self.shape) * y
        if self.how == "gate":
            return x * torch.sigmoid(y)
        if self.how == "iadd":
            y += x
            return y
        return x + y


@spec
class Concat(Block):
    """cat([x, f(x)]): a dense block, or a U-Net when f goes down and up again."""

    ranks: ClassVar[tuple[int, ...]] = (1, 2, 3)

    inner: tuple[Block, ...] = (Conv(),)
    nested: bool = False  # cat([cat([f(x), x]), f(x)])

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        inner, end = chain(self.inner, site)
        channels = site.channels + end.channels * (1 + self.nested)
        return _Concat(inner, self.nested), moved(site, channels)


class _Concat(Layer):
    def __init__(self, inner: Chain, nested: bool) -> None:
        super().__init__()
        self.inner, self.nested = inner, nested

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        y = resized(self.inner(x, image, second), x)
        if self.nested:
            return torch.cat((torch.cat([y, x], dim=1), torch.tanh(y)), dim=1)
        return torch.cat([x, y], 1)


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
        self.conv = nn.Conv2d(site.image, site.channels, 1) if how == "add" else None

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        small = resized(image, x)
        return torch.cat((x, small), dim=1) if self.conv is None else x + self.conv(small)


@spec
class LabelConcat(Block):
    """Joins the label to the features: in front or behind, expanded or repeated."""

    last: bool = False
    repeat: bool = False

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        if site.second != "label":
            return Plain(), site
        return _LabelConcat(self), moved(site, site.channels + LABELS)


class _LabelConcat(Layer):
    def __init__(self, spec: LabelConcat) -> None:
        super().__init__()
        self.last, self.repeat = spec.last, spec.repeat

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        label = second.view(second.size(0), second.size(1), 1, 1)
        if self.repeat:
            label = label.repeat(1, 1, x.size(2), x.size(3))
        else:
            label = label.expand(-1, -1, x.size(2), x.size(3))
        return torch.cat([x, label] if self.last else [label, x], dim=1)


@spec
class Shortcut(Block):
    """A conv to more or fewer channels, and the features added as they are."""

    how: str = "repeat"  # repeat | interleave | pad | zeros | drop | tile

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        out = {"pad": site.channels + 4, "zeros": site.channels + 2}.get(self.how)
        if self.how == "drop":
            out = max(1, site.channels - 1)
        out = out or site.channels * 2
        return _Shortcut(site.channels, out, self.how), moved(site, out)


class _Shortcut(Layer):
    def __init__(self, channels: int, out: int, how: str) -> None:
        super().__init__()
        self.conv, self.out, self.how = nn.Conv2d(channels, out, 3, padding=1), out, how

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        y = torch.tanh(self.conv(x))
        if self.how == "repeat":
            return y + x.repeat(1, 2, 1, 1)
        if self.how == "tile":
            return y + torch.cat([x, x], 1)
        if self.how == "interleave":
            return y + x.repeat_interleave(2, dim=1)
        if self.how == "pad":
            return y + nn.functional.pad(x, (0, 0, 0, 0, 2, 2))
        if self.how == "zeros":
            zeros = x.new_zeros(x.size(0), 2, x.size(2), x.size(3))
            return y + torch.cat((x, zeros), dim=1)
        return y + x[:, : self.out]
