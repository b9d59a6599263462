"""Data movement: pixel shuffle, resizing, halves exchanged."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.base import Block, Layer, Plain, Site, moved, spec


@spec
class PixelShuffle(Block):
    """A conv to 4 C channels, then depth to space; keeps images of 16 by unshuffling first."""

    out: int = 4
    functional: bool = False

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        if site.size >= 16:
            layers = [nn.PixelUnshuffle(2), nn.Conv2d(site.channels * 4, self.out, 1)]
            return Plain(*layers), moved(site, self.out, site.size // 2)
        return _PixelShuffle(site, self), moved(site, self.out, site.size * 2)


class _PixelShuffle(Layer):
    def __init__(self, site: Site, spec: PixelShuffle) -> None:
        super().__init__()
        self.conv = nn.Conv2d(site.channels, spec.out * 4, 3, padding=1)
        self.shuffle = F.pixel_shuffle if spec.functional else nn.PixelShuffle(2)
        self.functional = spec.functional

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        x = self.conv(x)
        return F.pixel_shuffle(x, 2) if self.functional else self.shuffle(x)


@spec
class Resize(Block):
    """Upsamples by 2 (nearest or bilinear), or average-pools an image that is 16 already."""

    bilinear: bool = False
    functional: bool = False

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        if site.size >= 16:
            return Plain(nn.AvgPool2d(2)), moved(site, 0, site.size // 2)
        mode = "bilinear" if self.bilinear else "nearest"
        end = moved(site, 0, site.size * 2)
        return (_Resize(mode) if self.functional else Plain(nn.Upsample(None, 2, mode))), end


class _Resize(Layer):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode=self.mode)


@spec
class Swap(Block):
    """Exchanges two halves of the channels, or gates one half by the other."""

    how: str = "swap"  # swap | gate | shuffle

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        if site.channels % 2:
            return Plain(), site
        return _Swap(self.how, site.channels), moved(
            site, site.channels // 2 if self.how == "gate" else 0
        )


class _Swap(Layer):
    def __init__(self, how: str, channels: int) -> None:
        super().__init__()
        self.how, self.channels = how, channels

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        if self.how == "shuffle":
            n, _, h, w = x.shape
            x = x.view(n, 2, self.channels // 2, h, w).transpose(1, 2)
            return x.reshape(n, self.channels, h, w)
        a, b = x.chunk(2, dim=1)
        return a * torch.sigmoid(b) if self.how == "gate" else torch.cat([b, a], 1)
