"""Generators that the benchmarks make themselves: chains, random ones, a ResNet-50, a U-Net."""

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["RandomGenerator", "chain", "resnet50", "unet10"]

WIDTHS = (16, 24, 32)


def chain(count: int) -> nn.Sequential:
    """Builds a chain of convolutions of 16 channels that ends in an image."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1)]
    for _ in range(count - 2):
        layers += [nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1))


class RandomGenerator(nn.Module):
    """A seeded random generator of about `count` convolutions: blocks of every kind in a row."""

    def __init__(self, count: int, seed: int = 0) -> None:
        super().__init__()
        draw = random.Random(seed)
        width = draw.choice(WIDTHS)
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList()
        left = count - 2
        while left > 0:
            fits = [kind for kind in BLOCKS if kind.convs <= left]
            block = draw.choice(fits)(width, draw)
            self.blocks.append(block)
            width, left = block.out, left - block.convs
        self.head = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Makes an image of an image."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return torch.tanh(self.head(x))


class Block(nn.Module):
    """A part of a random generator: how many convolutions it has, and channels it gives."""

    convs = 1

    def __init__(self, out: int) -> None:
        super().__init__()
        self.out = out


def norm(width: int, draw: random.Random) -> nn.Module:
    """Draws a norm."""
    kinds = [nn.BatchNorm2d(width), nn.InstanceNorm2d(width, affine=True), nn.GroupNorm(4, width)]
    return draw.choice(kinds)


class Plain(Block):
    """Convolution, norm and activation, to another width."""

    def __init__(self, width: int, draw: random.Random) -> None:
        super().__init__(draw.choice(WIDTHS))
        self.conv = nn.Conv2d(width, self.out, 3, padding=1)
        self.norm = norm(self.out, draw)

    def forward(self, x: Tensor) -> Tensor:
        """Makes `out` channels."""
        return F.leaky_relu(self.norm(self.conv(x)), 0.2)


class Residual(Block):
    """Two convolutions around a shortcut."""

    convs = 2

    def __init__(self, width: int, draw: random.Random) -> None:
        super().__init__(width)
        self.first = nn.Conv2d(width, draw.choice(WIDTHS), 3, padding=1)
        self.norm = norm(self.first.out_channels, draw)
        self.second = nn.Conv2d(self.first.out_channels, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Adds to its input."""
        return x + self.second(torch.relu(self.norm(self.first(x))))


class Dense(Block):
    """Three convolutions, each on all before, concatenated."""

    convs = 4

    def __init__(self, width: int, draw: random.Random) -> None:
        super().__init__(draw.choice(WIDTHS))
        grown = [nn.Conv2d(width + 8 * i, 8, 3, padding=1) for i in range(3)]
        self.grown = nn.ModuleList(grown)
        self.join = nn.Conv2d(width + 24, self.out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Makes `out` channels of everything."""
        for conv in self.grown:
            x = torch.cat([x, torch.relu(conv(x))], dim=1)
        return self.join(x)


class Gated(Block):
    """A convolution whose halves gate each other."""

    convs = 1

    def __init__(self, width: int, draw: random.Random) -> None:
        super().__init__(draw.choice(WIDTHS))
        self.conv = nn.Conv2d(width, 2 * self.out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Makes `out` channels."""
        value, gate = self.conv(x).chunk(2, dim=1)
        return value * torch.sigmoid(gate)


class Skip(Block):
    """Down, up, and a skip around both."""

    convs = 3

    def __init__(self, width: int, draw: random.Random) -> None:
        super().__init__(draw.choice(WIDTHS))
        inner = draw.choice(WIDTHS)
        self.down = nn.Conv2d(width, inner, 4, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(inner, inner, 4, stride=2, padding=1)
        self.join = nn.Conv2d(width + inner, self.out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Makes `out` channels."""
        return self.join(torch.cat([x, self.up(F.relu(self.down(x)))], dim=1))


class Attention(Block):
    """Self-attention over positions, as SAGAN has it."""

    convs = 4

    def __init__(self, width: int, draw: random.Random) -> None:
        super().__init__(width)
        self.query, self.key, self.value = (nn.Conv2d(width, 8, 1) for _ in range(3))
        self.back = nn.Conv2d(8, width, 1)
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Adds what each position attends to."""
        small = F.max_pool2d(x, 4)
        query, key, value = self.query(x), self.key(small), self.value(small)
        weights = torch.softmax(query.flatten(2).transpose(1, 2) @ key.flatten(2), dim=-1)
        seen = value.flatten(2) @ weights.transpose(1, 2)
        return x + self.gain * self.back(seen.view(x.size(0), -1, x.size(2), x.size(3)))


class Excited(Block):
    """A separable convolution with squeeze and excitation."""

    convs = 4

    def __init__(self, width: int, draw: random.Random) -> None:
        super().__init__(width)
        self.deep = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.wide = nn.Conv2d(width, width, 1)
        self.squeeze = nn.Conv2d(width, 8, 1)
        self.excite = nn.Conv2d(8, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Adds weighted channels to its input."""
        y = self.wide(F.silu(self.deep(x)))
        scale = self.excite(F.silu(self.squeeze(y.mean((2, 3), keepdim=True))))
        return x + y * torch.sigmoid(scale)


BLOCKS = (Plain, Residual, Dense, Gated, Skip, Attention, Excited)


class Bottleneck(nn.Module):
    """Three convolutions around a shortcut (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, width: int, inner: int, stride: int) -> None:
        super().__init__()
        out = 4 * inner
        self.conv1, self.bn1 = nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or width != out:
            conv = nn.Conv2d(width, out, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """Adds three convolutions to their input."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        return self.relu(y + self.shortcut(x))


def resnet50(classes: int = 1000) -> nn.Sequential:
    """Builds a ResNet-50: 53 convolutions, 25.6 M parameters."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    ]
    width = 64
    for stage, depth in enumerate((3, 4, 6, 3)):
        inner = 64 * 2**stage
        for i in range(depth):
            layers.append(Bottleneck(width, inner, stride=2 if i == 0 and stage else 1))
            width = 4 * inner
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


class Unet10(nn.Module):
    """Encodes in five convolutions, decodes in five, with the encoder's features concatenated."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width, 8 * width]
        self.down = nn.ModuleList(
            _stage(nn.Conv2d(before, after, 4, 2, 1))
            for before, after in zip([3, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            _stage(nn.ConvTranspose2d(after * (1 if stage == 4 else 2), widths[stage - 1], 4, 2, 1))
            for stage, after in reversed(list(enumerate(widths)))
            if stage
        )
        self.to_rgb = nn.ConvTranspose2d(2 * width, 3, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Makes an image of an image."""
        skips = []
        for stage in self.down:
            x = stage(x)
            skips.append(x)
        for stage, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = torch.cat([stage(x), skip], dim=1)
        return torch.tanh(self.to_rgb(x))


def _stage(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU())


def unet10(width: int = 64) -> Unet10:
    """Builds a U-Net of ten convolutions, of about 120 ms on two cores at 256 pixels."""
    return Unet10(width)
