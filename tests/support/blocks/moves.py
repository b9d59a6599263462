"""Data movement: pixel shuffle, resizing, halves exchanged, parts cut out or written into."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from support.blocks.base import Block, Layer, Plain, Site, moved, spec


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
    """Exchanges, shuffles or gates halves of the channels."""

    how: str = "swap"  # swap | gate | shuffle | shuffle_module | glu | glu_module | slices | flip

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        if site.channels % 2:
            return Plain(), site
        if self.how == "shuffle_module":
            return Plain(nn.ChannelShuffle(2)), site
        halved = self.how in ("gate", "glu", "glu_module", "slices") and site.channels > 2
        if self.how == "glu_module" and halved:
            return Plain(nn.GLU(1)), moved(site, site.channels // 2)
        how = "swap" if self.how[:3] == "glu" and not halved else self.how
        return _Swap(how, site.channels, halved), moved(site, site.channels // (1 + halved))


class _Swap(Layer):
    def __init__(self, how: str, channels: int, halved: bool) -> None:
        super().__init__()
        self.how, self.channels, self.halved = how, channels, halved

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        if self.how == "shuffle":
            n, _, h, w = x.shape
            x = x.view(n, 2, self.channels // 2, h, w).transpose(1, 2)
            return x.reshape(n, self.channels, h, w)
        if self.how == "flip":
            return x + x.flip(1)
        if self.how == "glu":
            return F.glu(x, dim=1)
        if self.how == "slices":
            half = x.shape[1] // 2
            a, b = x[:, :half], x[:, half:]
        else:
            a, b = x.chunk(2, dim=1)
        return a * torch.sigmoid(b) if self.halved else torch.cat([b, a], 1)


@spec
class Parts(Block):
    """Convolves a part of the channels: split off, cut by literals, or written in place."""

    how: str = "split"  # split | literal | write | write_all

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        if site.channels < 4:
            return Plain(), site
        return _Parts(self.how, site.channels), site


class _Parts(Layer):
    def __init__(self, how: str, channels: int) -> None:
        super().__init__()
        self.how, self.own = how, max(2, channels // 2 - 1)
        self.sizes = [self.own, channels - self.own]
        self.conv = nn.Conv2d(self.own, self.own, 3, padding=1)

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        if self.how == "split":
            a, b = torch.split(x, self.sizes, dim=1)
            return torch.cat([self.conv(a), b], 1)
        if self.how == "literal":
            return torch.cat((x[:, self.own :], self.conv(x[:, : self.own])), dim=1)
        x = x.clone()
        if self.how == "write":
            x[:, : self.own] = self.conv(x[:, : self.own])
        else:
            x[:, 0 : self.own, :, 1:] += self.conv(x[:, : self.own])[..., 1:]
        return x


@spec
class Crop(Block):
    """Moves along the spatial dimensions: a padded crop, a roll, a flip, a grid sample."""

    how: str = "crop"  # crop | roll | flip | grid | unfold

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        return _Crop(self.how, site.channels), site


class _Crop(Layer):
    def __init__(self, how: str, channels: int) -> None:
        super().__init__()
        self.how, self.channels = how, channels
        self.offset = nn.Conv2d(channels, 2, 1) if how == "grid" else None
        self.mix = nn.Conv2d(channels * 9, channels, 1) if how == "unfold" else None

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        if self.offset is not None:
            grid = torch.tanh(self.offset(x)).permute(0, 2, 3, 1)
            return F.grid_sample(x, grid, align_corners=False)
        if self.mix is not None:
            n, _, h, w = x.shape
            return self.mix(F.unfold(x, 3, padding=1).view(n, self.channels * 9, h, w))
        if self.how == "roll":
            return x + torch.roll(x, (1, -1), (2, 3))
        if self.how == "flip":
            return x * x.flip(3)
        around = F.pad(x, (1, 1, 1, 1), mode="reflect")[:, :, 1:-1, 2:]
        return around + F.pad(x, (0, 0, 1, 0))[:, :, :-1]
