"""Features seen in other shapes: vectors, tokens, windows, cells, frequencies."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from support.blocks.base import Block, Layer, Plain, Site, moved, spec


@spec
class ThroughLinear(Block):
    """Pools to 2x2, flattens, goes through linears and comes back as a 4x4 map."""

    out: int = 4
    hidden: int = 6
    literal: bool = True  # the view back says how many channels there are

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        return _ThroughLinear(site.channels, self), moved(site, self.out, 4)


class _ThroughLinear(Layer):
    def __init__(self, channels: int, spec: ThroughLinear) -> None:
        super().__init__()
        self.out = spec.out if spec.literal else -1
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.down = nn.Linear(channels * 4, spec.hidden)
        self.up = nn.Linear(spec.hidden, spec.out * 16)

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        x = self.pool(x)
        x = torch.flatten(x, 1) if self.out == -1 else x.reshape(x.size(0), -1)
        return self.up(F.relu(self.down(x))).view(x.size(0), self.out, 4, 4)


@spec
class ChannelsLast(Block):
    """A residual MLP on channels-last features, as they are or cut into 2x2 windows."""

    hidden: int = 6
    windows: bool = False
    gated: bool = False

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        return _ChannelsLast(site.channels, self), site


class _ChannelsLast(Layer):
    def __init__(self, channels: int, spec: ChannelsLast) -> None:
        super().__init__()
        self.windows, self.gated, self.channels = spec.windows, spec.gated, channels
        self.up = nn.Linear(channels, spec.hidden * (1 + spec.gated))
        self.down = nn.Linear(spec.hidden, channels)

    def mlp(self, x: Tensor) -> Tensor:
        x = self.up(x)
        if self.gated:
            x, gate = x.chunk(2, dim=-1)
            return self.down(x * F.gelu(gate))
        return self.down(F.gelu(x))

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        if not self.windows:
            return x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        n, c, h, w = x.shape
        y = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
        y = self.mlp(y).view(n, h // 2, w // 2, 2, 2, self.channels)
        return x + y.permute(0, 5, 1, 3, 2, 4).reshape(n, self.channels, h, w)


@spec
class WindowAttention(Block):
    """Attention of two heads inside 2x2 windows, as Swin has it."""

    width: int = 2
    bias: bool = False  # a table of relative positions, looked up

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        return _WindowAttention(site.channels, self), site


class _WindowAttention(Layer):
    def __init__(self, channels: int, spec: WindowAttention) -> None:
        super().__init__()
        self.channels, self.width = channels, spec.width
        self.all = nn.Linear(channels, 6 * spec.width)
        self.back = nn.Linear(2 * spec.width, channels)
        self.table = nn.Parameter(torch.empty(7, 2)) if spec.bias else None
        self.register_buffer("indices", (torch.arange(4)[:, None] + 3 - torch.arange(4)))

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        n, c, h, w = x.shape
        x = torch.roll(x, shifts=(-1, -1), dims=(2, 3))
        y = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
        q, k, v = self.all(y).view(-1, 4, 3, 2, self.width).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1)
        if self.table is not None:
            bias = self.table[self.indices.view(-1)].view(4, 4, 2).permute(2, 0, 1)
            scores = scores + bias.contiguous().unsqueeze(0)
        y = self.back((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, 4, 2 * self.width))
        y = y.view(n, h // 2, w // 2, 2, 2, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)
        return x + y


@spec
class Cells(Block):
    """2x2 cells into channels by view and permute, a conv, and back the same way."""

    back: bool = False
    last: bool = False  # the cell's position counts faster than the channel

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        if site.size < 8 and not self.back:
            return Plain(), site
        size = site.size if self.back else site.size // 2
        return _Cells(site.channels, self), moved(site, 0, size)


class _Cells(Layer):
    def __init__(self, channels: int, spec: Cells) -> None:
        super().__init__()
        self.channels, self.back, self.last = channels, spec.back, spec.last
        out = channels * 4 if spec.back else channels
        self.conv = nn.Conv2d(channels * 4, out, 1)

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        n, c, h, w = x.shape
        order = (0, 1, 3, 5, 2, 4) if self.last else (0, 3, 5, 1, 2, 4)
        x = x.view(n, c, h // 2, 2, w // 2, 2).permute(*order)
        x = self.conv(x.reshape(n, c * 4, h // 2, w // 2))
        if not self.back:
            return x
        shape = (n, c, 2, 2, h // 2, w // 2) if self.last else (n, 2, 2, c, h // 2, w // 2)
        order = (0, 1, 4, 2, 5, 3) if self.last else (0, 3, 4, 1, 5, 2)
        return x.view(*shape).permute(*order).reshape(n, c, h, w)


@spec
class Fourier(Block):
    """LaMa's spectral transform: real and imaginary parts side by side in the channels."""

    interleaved: bool = True  # else all real parts, then all imaginary ones

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        return _Fourier(site.channels, self.interleaved), site


class _Fourier(Layer):
    def __init__(self, channels: int, interleaved: bool) -> None:
        super().__init__()
        self.interleaved = interleaved
        self.conv = nn.Conv2d(channels * 2, channels * 2, 1)
        self.norm = nn.BatchNorm2d(channels * 2)

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        n, _, h, w = x.shape
        f = torch.fft.rfftn(x, dim=(-2, -1), norm="ortho")
        if not self.interleaved:
            f = self.norm(self.conv(torch.cat((f.real, f.imag), dim=1)))
            real, imaginary = torch.chunk(f, 2, dim=1)
            f = torch.complex(real, imaginary)
            return x + torch.fft.irfft2(f, s=(h, w), norm="ortho")
        f = torch.stack((f.real, f.imag), dim=-1).permute(0, 1, 4, 2, 3).contiguous()
        f = F.relu(self.norm(self.conv(f.view(n, -1, h, w // 2 + 1))))
        f = f.view(n, -1, 2, h, w // 2 + 1).permute(0, 1, 3, 4, 2).contiguous()
        f = torch.complex(f[..., 0], f[..., 1])
        return x + torch.fft.irfftn(f, s=(h, w), dim=(-2, -1), norm="ortho")
