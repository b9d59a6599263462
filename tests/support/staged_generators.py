"""Small generators in many styles, each with the stages of its layers as a person would say them.

A table lists the layers of a stage by module path; `*` stands for any end.
"""

from fnmatch import fnmatchcase

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["STAGED", "expected"]


def conv(inputs, outputs, size=3, stride=1):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2)


def block(inputs, outputs):
    return nn.Sequential(conv(inputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU())


class PooledUnet(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(block(3, 4), block(4, 4))
        self.b = nn.Sequential(block(4, 8), block(8, 8))
        self.c = nn.Sequential(block(8, 8), block(8, 8))
        self.d = nn.Sequential(block(16, 8), block(8, 8))
        self.e = nn.Sequential(block(12, 4), block(4, 4))
        self.f = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        a = self.a(x)
        b = self.b(F.max_pool2d(a, 2))
        c = self.c(F.avg_pool2d(b, 2))
        d = self.d(torch.cat([b, F.interpolate(c, size=b.shape[2:])], 1))
        up = F.interpolate(d, size=a.shape[2:], mode="bilinear", align_corners=False)
        return torch.sigmoid(self.f(self.e(torch.cat([a, up], 1))))


class UnpaddedUnet(nn.Module):
    """Convolutions without padding, skips that are cut to size (Ronneberger et al. 2015)."""

    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.c = nn.Sequential(nn.Conv2d(8, 4, 3), nn.ReLU())
        self.d = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        a = self.a(x)
        b = self.up(self.b(F.max_pool2d(a, 2)))
        at = (a.shape[2] - b.shape[2]) // 2
        cut = a[:, :, at : at + b.shape[2], at : at + b.shape[3]]
        return self.d(self.c(torch.cat([cut, b], 1)))


class Squeezed(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.less = nn.Conv2d(width, 2, 1)
        self.more = nn.Conv2d(2, width, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.more(F.relu(self.less(self.pool(x)))))


class SqueezedByLinears(Squeezed):
    def __init__(self, width):
        super().__init__(width)
        self.less, self.more = nn.Linear(width, 2), nn.Linear(2, width)

    def forward(self, x):
        return x * torch.sigmoid(self.more(F.relu(self.less(x.mean((2, 3))))))[:, :, None, None]


class Residual(nn.Module):
    def __init__(self, width, gate=nn.Identity):
        super().__init__()
        self.a, self.b = conv(width, width), conv(width, width)
        self.gate = gate(width)

    def forward(self, x):
        return x + self.gate(self.b(F.relu(self.a(x))))


class Resized(nn.Module):
    """Strides down, residual blocks with squeeze-excite, nearest and a convolution up."""

    def __init__(self, gate, blocks=2):
        super().__init__()
        self.a = conv(3, 4, 7)
        self.b = nn.Sequential(conv(4, 8, 3, 2), nn.ReLU(), gate(8))
        self.c = nn.Sequential(*(Residual(8, gate) for _ in range(blocks)))
        self.d = nn.Sequential(nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1))
        self.e = nn.Sequential(nn.Conv2d(8, 4, 3), nn.ReLU(), gate(4))
        self.f = conv(4, 3, 7)

    def forward(self, x):
        return torch.tanh(self.f(self.e(self.d(self.c(self.b(self.a(x)))))))


class ResidualUnet(nn.Module):
    """Residual blocks at every size, and a skip that is added."""

    def __init__(self):
        super().__init__()
        self.a, self.b = conv(3, 4), nn.Sequential(Residual(4), Residual(4))
        self.c, self.d = conv(4, 8, 3, 2), nn.Sequential(Residual(8), Residual(8))
        self.e = nn.ConvTranspose2d(8, 4, 4, 2, 1)
        self.f = nn.Sequential(Residual(4), Residual(4))
        self.g = conv(4, 3)

    def forward(self, x):
        b = self.b(self.a(x))
        return self.g(self.f(b + self.e(self.d(self.c(b)))))


class Flat(nn.Module):
    """No change of size anywhere."""

    def __init__(self, residual):
        super().__init__()
        self.residual = residual
        self.a, self.b, self.c, self.d = conv(3, 4), conv(4, 4), conv(4, 4), conv(4, 3)

    def forward(self, x):
        y = self.d(F.relu(self.c(F.relu(self.b(F.relu(self.a(x)))))))
        return x - y if self.residual else y


class Shuffled(nn.Module):
    """Works on a quarter of the places: pixel unshuffle and shuffle around."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = conv(12, 4), conv(4, 4), conv(4, 12)

    def forward(self, x):
        x = F.relu(self.b(F.relu(self.a(F.pixel_unshuffle(x, 2)))))
        return F.pixel_shuffle(self.c(x), 2)


class ShuffledByHand(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = conv(3, 4), conv(4, 4), conv(4, 16), conv(4, 3)

    def forward(self, x):
        x = self.c(F.relu(self.b(F.relu(self.a(x)))))
        n, _, height, width = x.shape
        x = x.view(n, 4, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
        return self.d(x.reshape(n, 4, 2 * height, 2 * width))


class Styled(nn.Module):
    """Adaptive instance norms in the body and on the way up (Huang and Belongie 2017)."""

    def __init__(self):
        super().__init__()
        self.mapping = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8))
        self.a, self.b, self.c, self.d = conv(3, 4), conv(4, 8, 4, 2), conv(8, 8), conv(8, 8)
        self.e, self.f = nn.ConvTranspose2d(8, 4, 4, 2, 1), conv(4, 3)
        self.style1, self.style2 = nn.Linear(8, 16), nn.Linear(8, 8)

    def adapted(self, x, style):
        gain, shift = style.chunk(2, 1)
        return F.instance_norm(x) * (1 + gain[:, :, None, None]) + shift[:, :, None, None]

    def forward(self, x, z):
        w = self.mapping(z)
        x = self.c(F.relu(self.b(F.relu(self.a(x)))))
        x = self.d(F.relu(self.adapted(x, self.style1(w))))
        return self.f(F.relu(self.adapted(self.e(x), self.style2(w))))


class Grown(nn.Module):
    """A latent, a map of 4x4, and an image that is added up at two sizes."""

    def __init__(self):
        super().__init__()
        self.mapping, self.first = nn.Linear(8, 8), nn.Linear(8, 128)
        self.a, self.b, self.c = conv(8, 8), conv(8, 4), conv(4, 4)
        self.rgb1, self.rgb2 = nn.Conv2d(8, 3, 1), nn.Conv2d(4, 3, 1)

    def forward(self, z):
        x = F.relu(self.a(self.first(self.mapping(z)).view(-1, 8, 4, 4)))
        rgb = F.interpolate(self.rgb1(x), scale_factor=2)
        x = self.c(F.relu(self.b(F.interpolate(x, scale_factor=2))))
        return self.rgb2(F.relu(x)) + rgb


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = conv(3, 4, 4, 2), nn.Linear(4 * 81, 5)
        self.c, self.d = nn.Linear(5, 5), nn.Linear(5, 4 * 64)
        self.e = nn.ConvTranspose2d(4, 3, 4, 2, 1)

    def forward(self, x):
        x = self.d(F.relu(self.c(self.b(self.a(x).flatten(1)))))
        return self.e(x.view(-1, 4, 8, 8))


class Mixed(nn.Module):
    """A pooled branch beside the main one, spread over the map again."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.pool = conv(3, 4, 3, 2), conv(4, 4), nn.AdaptiveAvgPool2d(1)
        self.c, self.d, self.e = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(8, 4, 1)
        self.f = nn.ConvTranspose2d(4, 3, 4, 2, 1)

    def forward(self, x):
        x = self.b(F.relu(self.a(x)))
        pooled = F.interpolate(self.c(self.pool(x)), size=x.shape[2:])
        return self.f(self.e(torch.cat([self.d(x), pooled], 1)))


class Functional(nn.Module):
    """Weights called as functions."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.inner = nn.ParameterDict({"weight": nn.Parameter(torch.randn(4, 8, 4, 4))})
        self.a = conv(8, 8)
        self.down = nn.Parameter(torch.randn(8, 4, 3, 3))

    def forward(self, x):
        x = F.conv2d(F.conv2d(x, self.first, padding=1), self.down, None, 2, 1)
        x = F.conv_transpose2d(self.a(x).transpose(0, 1).transpose(0, 1), self.up, None, 2, 1)
        return x

    @property
    def up(self):
        return self.inner["weight"].transpose(0, 1)


class GatedBelow(nn.Module):
    """A gate that is computed at a lower resolution (Liu et al. 2020, RFANet)."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = conv(3, 4), conv(4, 4), conv(4, 4), conv(4, 12)
        self.less, self.inner, self.more = conv(4, 2, 3, 2), conv(2, 2), conv(2, 4, 1)

    def forward(self, x):
        x = self.c(F.relu(self.b(F.relu(self.a(x)))))
        gate = self.inner(F.max_pool2d(self.less(x), 2))
        x = x * torch.sigmoid(self.more(F.interpolate(gate, size=x.shape[2:])))
        return F.pixel_shuffle(self.d(x), 2)


class Masked(nn.Module):
    """Most of the layers estimate a mask, at half the resolution."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = conv(3, 4), conv(4, 4, 3, 2), conv(4, 4), conv(4, 4)
        self.e, self.f = nn.ConvTranspose2d(4, 4, 4, 2, 1), conv(4, 3)

    def forward(self, x):
        x = self.a(x)
        return self.f(x * torch.sigmoid(self.e(self.d(F.relu(self.c(self.b(x)))))))


class Attending(nn.Module):
    """Attention whose map, and scores from the middle, are outputs too."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = conv(3, 4), conv(4, 4, 4, 2), conv(4, 4), conv(4, 4)
        self.query, self.key, self.score = conv(4, 2, 1), conv(4, 2, 1), nn.Linear(4, 1)
        self.e, self.f = nn.ConvTranspose2d(4, 4, 4, 2, 1), conv(4, 3)

    def forward(self, x):
        x = self.c(F.relu(self.b(F.relu(self.a(x)))))
        query, key = self.query(x).flatten(2), F.max_pool2d(self.key(x), 2).flatten(2)
        seen = torch.softmax(query.transpose(1, 2) @ key, -1)
        value = F.max_pool2d(x, 2).flatten(2)
        mixed = (value @ seen.transpose(1, 2)).view(x.shape)
        x = self.d(x + mixed)
        return self.f(self.e(x)), seen, self.score(x.mean((2, 3)))


class Upscaled(nn.Module):
    """The image is enlarged before the first layer (Dong et al. 2014)."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = conv(3, 4, 9), conv(4, 4, 1), conv(4, 3, 5)

    def forward(self, x):
        x = F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
        return self.c(F.relu(self.b(F.relu(self.a(x)))))


class Perceptron(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 16)

    def forward(self, z):
        return self.c(F.relu(self.b(F.relu(self.a(z))))).view(-1, 1, 4, 4)


IMAGE = ((1, 3, 16, 16),)
RESIZED = {"stem": "a", "down": "b.*", "body": "c.*", "up": "e.*", "head": "f"}
FLAT = {"stem": "a", "body": "b c", "head": "d"}
# model → shapes of its inputs, then the layers of each stage
STAGED = {
    "pooled unet": (
        PooledUnet,
        IMAGE,
        {"stem": "a.0.0", "down": "a.1.0 b.*", "body": "c.*", "up": "d.* e.*", "head": "f"},
    ),
    "pooled unet of odd size": (
        PooledUnet,
        ((2, 3, 17, 19),),
        {"stem": "a.0.0", "down": "a.1.0 b.*", "body": "c.*", "up": "d.* e.*", "head": "f"},
    ),
    "unet without padding": (
        UnpaddedUnet,
        ((1, 3, 24, 24),),
        {"stem": "a.0", "down": "a.2", "body": "b.*", "up": "up c.*", "head": "d"},
    ),
    "squeeze-excite": (lambda: Resized(Squeezed), IMAGE, RESIZED),
    "squeeze-excite by linears": (lambda: Resized(SqueezedByLinears), IMAGE, RESIZED),
    "squeeze-excite on one place": (lambda: Resized(Squeezed), ((1, 3, 2, 2),), RESIZED),
    "one residual block": (lambda: Resized(Squeezed, 1), IMAGE, RESIZED),
    "residual unet": (
        ResidualUnet,
        IMAGE,
        {"stem": "a", "down": "b.* c", "body": "d.*", "up": "e f.*", "head": "g"},
    ),
    "flat": (lambda: Flat(False), IMAGE, FLAT),
    "flat, a residual": (lambda: Flat(True), IMAGE, FLAT),
    "pixel shuffles": (Shuffled, IMAGE, {"down": "a", "body": "b", "up": "c"}),
    "a shuffle by hand": (
        ShuffledByHand,
        IMAGE,
        {"stem": "a", "body": "b", "up": "c", "head": "d"},
    ),
    "styles": (
        Styled,
        ((1, 3, 16, 16), (1, 4)),
        {
            "stem": "a",
            "down": "b",
            "body": "c d mapping.* style1",
            "up": "e style2",
            "head": "f",
        },
    ),
    "latent": (
        Grown,
        ((1, 8),),
        {"stem": "mapping", "body": "a rgb1", "up": "first b c", "head": "rgb2"},
    ),
    "autoencoder": (Autoencoder, ((1, 3, 17, 17),), {"down": "a b", "body": "c", "up": "d e"}),
    "pooled branch": (Mixed, IMAGE, {"down": "a", "body": "b c d e", "up": "f"}),
    "functions": (
        Functional,
        IMAGE,
        {"stem": "first", "down": "down", "body": "a", "up": "inner"},
    ),
    "a gate below": (
        GatedBelow,
        IMAGE,
        {"stem": "a", "body": "b c less inner more", "up": "d"},
    ),
    "a mask": (Masked, IMAGE, {"stem": "a", "down": "b", "body": "c d", "up": "e", "head": "f"}),
    "attention that is an output": (
        Attending,
        IMAGE,
        {"stem": "a", "down": "b", "body": "c query key d score", "up": "e", "head": "f"},
    ),
    "enlarged before": (Upscaled, IMAGE, {"stem": "a", "body": "b", "head": "c"}),
    "perceptron": (Perceptron, ((1, 4),), {"stem": "a", "body": "b", "head": "c"}),
    "two layers": (
        lambda: nn.Sequential(conv(3, 4), conv(4, 3)),
        IMAGE,
        {"stem": "0", "head": "1"},
    ),
    "one layer": (lambda: nn.Sequential(conv(3, 4)), IMAGE, {"body": "0"}),
}


def expected(table, layers):
    """Spells a table out for the layers that there are."""
    globs = [(glob, stage) for stage, text in table.items() for glob in text.split()]
    found = {name: [s for g, s in globs if fnmatchcase(name, g)] for name in layers}
    assert all(len(names) == 1 for names in found.values()), found
    return {name: names[0] for name, names in found.items()}
