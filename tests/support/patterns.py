"""Small generators, one for each way in which published code moves channels around.

Each entry is a module class and the shapes of its inputs; tests prune it and judge the result by
the consumer-zeroing oracle. `PINNED` names those whose inner channels may not be narrowed at all.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PATTERNS"]

PATTERNS: dict[str, tuple[type[nn.Module], tuple[tuple[int, ...], ...]]] = {}


def pattern(*shapes: tuple[int, ...]):
    """Registers a class under its name, with its input shapes."""

    def register(kind: type[nn.Module]) -> type[nn.Module]:
        PATTERNS[kind.__name__] = (kind, shapes or ((2, 3, 8, 8),))
        return kind

    return register


class Base(nn.Module):
    """A first and a last convolution around a body."""

    width, last = 8, 8

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, self.width, 3, padding=1)
        self.build()
        self.to_rgb = nn.Conv2d(self.last, 3, 3, padding=1)

    def build(self) -> None:
        """Makes the body's modules."""

    def body(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.to_rgb(self.body(torch.relu(self.first(x))))


@pattern()
class Grouped(Base):
    last = 12

    def build(self):
        self.conv = nn.Conv2d(8, 12, 3, padding=1, groups=4)

    def body(self, x):
        return torch.relu(self.conv(x))


@pattern()
class GroupedTransposed(Base):
    last = 12

    def build(self):
        self.up = nn.ConvTranspose2d(8, 12, 4, 2, 1, groups=4)

    def body(self, x):
        return torch.relu(self.up(x))


@pattern()
class Depthwise(Base):
    def build(self):
        self.dw = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pw = nn.Conv2d(8, 8, 1)

    def body(self, x):
        return torch.relu(self.pw(self.dw(x)))


@pattern()
class DepthMultiplier(Base):
    last = 16

    def build(self):
        self.dw = nn.Conv2d(8, 16, 3, padding=1, groups=8)

    def body(self, x):
        return torch.relu(self.dw(x))


@pattern()
class DepthwiseTransposed(Base):
    def build(self):
        self.up = nn.ConvTranspose2d(8, 8, 4, 2, 1, groups=8)

    def body(self, x):
        return torch.relu(self.up(x))


@pattern()
class ShuffledGroups(Base):
    def build(self):
        self.a = nn.Conv2d(8, 8, 1, groups=2)
        self.b = nn.Conv2d(8, 8, 3, padding=1, groups=2)

    def body(self, x):
        x = self.a(x)
        b, c, h, w = x.shape
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        return torch.relu(self.b(x))


@pattern()
class ChannelShuffleModule(Base):
    def build(self):
        self.a = nn.Conv2d(8, 8, 1, groups=2)
        self.shuffle = nn.ChannelShuffle(2)
        self.b = nn.Conv2d(8, 8, 3, padding=1, groups=2)

    def body(self, x):
        return torch.relu(self.b(self.shuffle(self.a(x))))


@pattern()
class Dilated(Base):
    def build(self):
        self.conv = nn.Conv2d(8, 8, 3, padding=2, dilation=2, padding_mode="reflect")

    def body(self, x):
        return torch.relu(self.conv(x))


@pattern((2, 3, 16))
class OneDimensional(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv1d(3, 8, 3, padding=1), nn.ConvTranspose1d(8, 6, 4, 2, 1)
        self.norm, self.c = nn.BatchNorm1d(6), nn.Conv1d(6, 2, 1)

    def forward(self, x):
        return self.c(F.leaky_relu(self.norm(self.b(self.a(x).relu()))))


@pattern((1, 2, 4, 4, 4))
class ThreeDimensional(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv3d(2, 8, 3, padding=1), nn.Conv3d(8, 2, 3, padding=1)
        self.norm = nn.InstanceNorm3d(8, affine=True)

    def forward(self, x):
        return self.b(F.interpolate(self.norm(self.a(x)).relu(), scale_factor=2))


@pattern()
class PixelShuffleInside(Base):
    last = 4

    def build(self):
        self.conv, self.shuffle = nn.Conv2d(8, 16, 3, padding=1), nn.PixelShuffle(2)

    def body(self, x):
        return F.leaky_relu(self.shuffle(self.conv(x)), 0.2)


@pattern()
class PixelShuffleLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)

    def forward(self, x):
        return F.pixel_shuffle(self.b(self.a(x).relu()), 2)


@pattern()
class PixelUnshuffle(Base):
    last = 8

    def build(self):
        self.conv = nn.Conv2d(32, 8, 1)

    def body(self, x):
        return self.conv(F.pixel_unshuffle(x, 2)).relu()


class ScaledConv(nn.Conv2d):
    """A subclass with a forward of its own."""

    def forward(self, x):
        return F.conv2d(x, self.weight * 0.5, self.bias, self.stride, self.padding)


@pattern()
class ConvSubclass(Base):
    def build(self):
        self.conv = ScaledConv(8, 8, 3, padding=1)

    def body(self, x):
        return self.conv(x).relu()


@pattern()
class EqualisedLearningRate(Base):
    def build(self):
        self.weight, self.bias = nn.Parameter(torch.randn(8, 8, 3, 3)), nn.Parameter(torch.zeros(8))
        self.scale = 1 / math.sqrt(72)

    def body(self, x):
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=1).relu()


@pattern()
class BlurBuffer(Base):
    def build(self):
        kernel = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("kernel", (kernel[:, None] * kernel / 16).expand(8, 1, 3, 3).clone())

    def body(self, x):
        return F.conv2d(x, self.kernel, padding=1, groups=8)


@pattern()
class BlurExpanded(Base):
    def build(self):
        kernel = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("kernel", (kernel[:, None] * kernel / 16)[None, None])

    def body(self, x):
        kernel = self.kernel.expand(x.shape[1], 1, 3, 3)
        return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


@pattern()
class BlurRepeatedLiteral(Base):
    def build(self):
        kernel = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("kernel", (kernel[:, None] * kernel / 16)[None, None])

    def body(self, x):
        return F.conv2d(x, self.kernel.repeat(8, 1, 1, 1), padding=1, groups=8)


@pattern((2, 6))
class LearnedConstant(nn.Module):
    def __init__(self):
        super().__init__()
        self.const = nn.Parameter(torch.randn(1, 8, 4, 4))
        self.style, self.a = nn.Linear(6, 8), nn.Conv2d(8, 8, 3, padding=1)
        self.to_rgb = nn.Conv2d(8, 3, 1)

    def forward(self, z):
        x = self.const.repeat(z.shape[0], 1, 1, 1) * self.style(z)[:, :, None, None]
        return self.to_rgb(self.a(x).relu())


@pattern((2, 6))
class ExpandedConstant(nn.Module):
    def __init__(self):
        super().__init__()
        self.const = nn.Parameter(torch.randn(1, 8, 4, 4))
        self.style, self.a = nn.Linear(6, 8), nn.Conv2d(8, 8, 3, padding=1)
        self.to_rgb = nn.Conv2d(8, 3, 1)

    def forward(self, z):
        x = self.const.expand(z.size(0), -1, -1, -1) + self.style(z)[:, :, None, None]
        return self.to_rgb(self.a(x).relu())


@pattern()
class NoiseParameters(Base):
    def build(self):
        self.strength = nn.Parameter(torch.randn(1, 8, 1, 1))
        self.register_buffer("noise", torch.randn(1, 1, 8, 8))

    def body(self, x):
        return x + self.strength * self.noise


@pattern()
class FunctionalBatchNorm(Base):
    def build(self):
        self.w, self.b = nn.Parameter(torch.rand(8) + 0.5), nn.Parameter(torch.randn(8))
        self.register_buffer("mean", torch.randn(8))
        self.register_buffer("var", torch.rand(8) + 0.5)

    def body(self, x):
        return F.batch_norm(x, self.mean, self.var, self.w, self.b, training=False)


@pattern()
class InstanceNorms(Base):
    def build(self):
        self.a, self.b = nn.InstanceNorm2d(8), nn.InstanceNorm2d(8, affine=True)

    def body(self, x):
        return self.b(self.a(x) + x)


@pattern()
class GroupNormed(Base):
    def build(self):
        self.norm = nn.GroupNorm(4, 8)

    def body(self, x):
        return self.norm(x).relu()


@pattern()
class AdaINView(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.style = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(3, 16)
        self.norm, self.b = nn.InstanceNorm2d(8), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        s = self.style(x.mean((2, 3))).view(-1, 2, 8, 1, 1)
        return self.b(self.norm(self.a(x)) * (1 + s[:, 0]) + s[:, 1])


@pattern()
class AdaINChunk(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.style = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(3, 16)
        self.norm, self.b = nn.InstanceNorm2d(8), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        gamma, beta = self.style(x.mean((2, 3))).unsqueeze(2).unsqueeze(3).chunk(2, 1)
        return self.b(self.norm(self.a(x)) * (1 + gamma) + beta)


@pattern((2, 3, 8, 8), (2, 4, 8, 8))
class SpadeChunked(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8, affine=False)
        self.hidden, self.both = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 16, 3, padding=1)
        self.b = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x, seg):
        gamma, beta = torch.chunk(self.both(self.hidden(seg).relu()), 2, dim=1)
        return self.b(self.norm(self.a(x)) * (1 + gamma) + beta)


class ClassConditional(nn.Module):
    """One embedding of 2C, as in SAGAN's ConditionalBatchNorm2d."""

    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8, affine=False)
        self.embed, self.b = nn.Linear(5, 16), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x, y):
        gamma, beta = self.embed(y).chunk(2, 1)
        out = self.norm(self.a(x))
        return self.b(gamma.view(-1, 8, 1, 1) * out + beta.view(-1, 8, 1, 1))


pattern((2, 3, 8, 8), (2, 5))(ClassConditional)


@pattern()
class PReLUPerChannel(Base):
    def build(self):
        self.act = nn.PReLU(8)

    def body(self, x):
        return self.act(x - 0.5)


@pattern()
class LayerScale(Base):
    def build(self):
        self.conv, self.gamma = nn.Conv2d(8, 8, 1), nn.Parameter(torch.randn(8))

    def body(self, x):
        return x + self.gamma.view(1, -1, 1, 1) * self.conv(x)


@pattern()
class LayerScaleReshaped(Base):
    def build(self):
        self.conv, self.gamma = nn.Conv2d(8, 8, 1), nn.Parameter(torch.randn(8))

    def body(self, x):
        return x + self.gamma.reshape(1, 8, 1, 1) * self.conv(x)


@pattern()
class DenseBlock(Base):
    last = 20

    def build(self):
        self.a, self.b = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(14, 6, 3, padding=1)

    def body(self, x):
        y = torch.cat([x, self.a(x).relu()], 1)
        return torch.cat((y, self.b(y).relu()), dim=1)


@pattern((2, 3, 8, 8), (2, 4))
class LabelConcat(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(7, 8, 3, padding=1), nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, x, c):
        c = c.view(c.size(0), c.size(1), 1, 1)
        c = c.repeat(1, 1, x.size(2), x.size(3))
        y = self.a(torch.cat([x, c], dim=1)).relu()
        return self.b(torch.cat([c, y], dim=1)).tanh()


@pattern()
class InputSkip(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(11, 3, 3, padding=1)

    def forward(self, x):
        return x + self.b(torch.cat([self.a(x).relu(), x], 1))


@pattern()
class SharedConv(Base):
    def build(self):
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def body(self, x):
        return self.conv(self.conv(x).relu()).relu()


@pattern((2, 3, 8, 8), (2, 4, 8, 8))
class SeveralOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.c, self.d = nn.Conv2d(8, 3, 1), nn.Conv2d(8, 1, 1)

    def forward(self, x, y):
        z = (self.a(x) + self.b(y)).relu()
        return {"image": self.c(z), "mask": torch.sigmoid(self.d(z))}


@pattern()
class GatedByChunk(Base):
    last = 6

    def build(self):
        self.conv = nn.Conv2d(8, 12, 3, padding=1)

    def body(self, x):
        a, b = self.conv(x).chunk(2, dim=1)
        return a * torch.sigmoid(b)


@pattern()
class GatedBySlices(Base):
    last = 6

    def build(self):
        self.conv = nn.Conv2d(8, 12, 3, padding=1)

    def body(self, x):
        y = self.conv(x)
        half = y.shape[1] // 2
        return y[:, :half] * torch.tanh(y[:, half:])


@pattern()
class GLUs(Base):
    last = 6

    def build(self):
        self.conv, self.glu = nn.Conv2d(8, 24, 3, padding=1), nn.GLU(1)

    def body(self, x):
        return F.glu(self.glu(self.conv(x)), dim=1)


@pattern()
class ResidualSplit(Base):
    def build(self):
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def body(self, x):
        a, b = torch.split(x, [3, 5], dim=1)
        return torch.cat([self.conv(a).relu(), b], 1)


@pattern()
class LiteralSlices(Base):
    last = 6

    def build(self):
        self.conv = nn.Conv2d(5, 6, 3, padding=1)

    def body(self, x):
        return self.conv(x[:, 3:8] + 0.0).relu() + self.conv(x[:, 0:5]).relu()


@pattern()
class RepeatShortcut(Base):
    last = 16

    def build(self):
        self.conv = nn.Conv2d(8, 16, 3, padding=1)

    def body(self, x):
        return self.conv(x).relu() + x.repeat(1, 2, 1, 1)


@pattern()
class InterleaveShortcut(Base):
    last = 16

    def build(self):
        self.conv = nn.Conv2d(8, 16, 3, padding=1)

    def body(self, x):
        return self.conv(x).relu() + x.repeat_interleave(2, dim=1)


@pattern()
class ZeroPaddedShortcut(Base):
    last = 12

    def build(self):
        self.conv = nn.Conv2d(8, 12, 3, padding=1)

    def body(self, x):
        return self.conv(x).relu() + F.pad(x, (0, 0, 0, 0, 2, 2))


@pattern()
class ZeroCatShortcut(Base):
    last = 12

    def build(self):
        self.conv = nn.Conv2d(8, 12, 3, padding=1)

    def body(self, x):
        zeros = torch.zeros(x.shape[0], 4, x.shape[2], x.shape[3], dtype=x.dtype)
        return self.conv(x).relu() + torch.cat([x, zeros], 1)


@pattern()
class DroppingShortcut(Base):
    last = 5

    def build(self):
        self.conv = nn.Conv2d(8, 5, 3, padding=1)

    def body(self, x):
        return self.conv(x).relu() + x[:, :5]


@pattern()
class SqueezeExcite(Base):
    def build(self):
        self.down, self.up = nn.Linear(8, 4), nn.Linear(4, 8)

    def body(self, x):
        b, c, _, _ = x.size()
        s = F.adaptive_avg_pool2d(x, 1).view(b, c)
        s = torch.sigmoid(self.up(self.down(s).relu())).view(b, c, 1, 1)
        return x * s.expand_as(x)


@pattern()
class ClassActivation(Base):
    """U-GAT-IT: the weight of a linear classifier scales the channels it read."""

    def build(self):
        self.fc, self.mix = nn.Linear(8, 1, bias=False), nn.Conv2d(16, 8, 1)

    def body(self, x):
        logit = self.fc(F.adaptive_avg_pool2d(x, 1).view(x.shape[0], -1))
        weight = next(iter(self.fc.parameters()))
        scaled = x * weight.unsqueeze(2).unsqueeze(3)
        return self.mix(torch.cat([scaled, x * logit[:, :, None, None]], 1)).relu()


@pattern()
class PooledCat(Base):
    last = 16

    def body(self, x):
        mean, most = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return torch.cat([x * mean, x * most], 1)


class Latent(nn.Module):
    """Latent vector → linear → map → image, cut in a way that subclasses choose."""

    def __init__(self):
        super().__init__()
        self.fc, self.norm = nn.Linear(6, 8 * 16), nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 6, 4, 2, 1)
        self.to_rgb = nn.Conv2d(6, 3, 3, padding=1)

    def cut(self, x):
        raise NotImplementedError

    def forward(self, z):
        x = self.norm(self.cut(self.fc(z))).relu()
        return self.to_rgb(self.up(x).relu()).tanh()


@pattern((2, 6))
class LatentInferred(Latent):
    def cut(self, x):
        return x.view(x.size(0), -1, 4, 4)


@pattern((2, 6))
class LatentLiteral(Latent):
    def cut(self, x):
        return x.view(-1, 8, 4, 4)


@pattern((2, 6))
class LatentUnflatten(Latent):
    def __init__(self):
        super().__init__()
        self.unflatten = nn.Unflatten(1, (8, 4, 4))

    def cut(self, x):
        return self.unflatten(x)


@pattern((2, 6))
class LatentTensorUnflatten(Latent):
    def cut(self, x):
        return x.unflatten(1, (8, 4, 4))


@pattern((2, 6))
class LatentChannelsLast(Latent):
    def cut(self, x):
        return x.view(x.shape[0], 4, 4, 8).permute(0, 3, 1, 2)


@pattern()
class ThroughLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3, 2, 1)
        self.down, self.up = nn.Linear(4 * 16, 10), nn.Linear(10, 6 * 16)
        self.c = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x):
        x = torch.flatten(self.b(self.a(x).relu()).relu(), 1)
        x = self.up(self.down(x).relu()).relu().view(-1, 6, 4, 4)
        return self.c(x)


@pattern()
class ChannelsLastMLP(Base):
    def build(self):
        self.a, self.b = nn.Linear(8, 20), nn.Linear(20, 8)

    def body(self, x):
        y = x.permute(0, 2, 3, 1)
        return x + self.b(F.gelu(self.a(y))).permute(0, 3, 1, 2)


@pattern()
class WindowMLP(Base):
    def build(self):
        self.a, self.b = nn.Linear(8, 12), nn.Linear(12, 8)

    def body(self, x):
        b, c, h, w = x.shape
        y = x.view(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        y = self.b(self.a(y).relu()).view(b, h // 4, w // 4, 4, 4, 8).permute(0, 5, 1, 3, 2, 4)
        return x + y.reshape(b, 8, h, w)


@pattern()
class SpaceToDepthByView(Base):
    last = 8

    def build(self):
        self.conv = nn.Conv2d(32, 8, 1)

    def body(self, x):
        b, c, h, w = x.shape
        x = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4)
        return self.conv(x.reshape(b, c * 4, h // 2, w // 2)).relu()


@pattern()
class SelfAttention(Base):
    def build(self):
        self.q, self.k, self.v = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 8, 1)
        self.gamma = nn.Parameter(torch.tensor(0.7))

    def body(self, x):
        b, c, h, w = x.size()
        q = self.q(x).view(b, -1, h * w).permute(0, 2, 1)
        attention = torch.softmax(torch.bmm(q, self.k(x).view(b, -1, h * w)), dim=-1)
        out = torch.bmm(self.v(x).view(b, -1, h * w), attention.permute(0, 2, 1))
        return self.gamma * out.view(b, c, h, w) + x


@pattern()
class SelfAttentionLiteral(Base):
    def build(self):
        self.q, self.k, self.v = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 6, 1)
        self.out = nn.Conv2d(6, 8, 1)

    def body(self, x):
        q, k, v = self.q(x).view(-1, 4, 64), self.k(x).view(-1, 4, 64), self.v(x).view(-1, 6, 64)
        attention = F.softmax(q.transpose(1, 2) @ k / 4**0.5, -1)
        return x + self.out((v @ attention.transpose(1, 2)).view(-1, 6, 8, 8))


class MultiHead(Base):
    """Two heads of width 4."""

    def build(self):
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)

    def attend(self, q, k, v):
        scores = (q @ k.transpose(-2, -1)) * (q.shape[-1] ** -0.5)
        return scores.softmax(-1) @ v

    def body(self, x):
        b, c, h, w = x.shape
        y = x.flatten(2).transpose(1, 2)
        qkv = self.qkv(y).reshape(b, h * w, 3, 2, 4).permute(2, 0, 3, 1, 4)
        out = self.attend(qkv[0], qkv[1], qkv[2])
        out = self.proj(out.transpose(1, 2).reshape(b, h * w, 8))
        return x + out.transpose(1, 2).view(b, c, h, w)


pattern()(MultiHead)


@pattern()
class MultiHeadSDPA(MultiHead):
    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v)


@pattern()
class MultiHeadModule(Base):
    def build(self):
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def body(self, x):
        y = x.flatten(2).transpose(1, 2)
        y = self.attention(y, y, y, need_weights=False)[0]
        return x + y.transpose(1, 2).reshape(x.shape)


@pattern((2, 3, 8, 8), (2, 5, 6))
class CrossAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1)
        self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(6, 8), nn.Linear(6, 8)
        self.proj = nn.Linear(8, 8)

    def forward(self, x, text):
        x = self.a(x)
        b, c, h, w = x.shape
        y = x.flatten(2).transpose(1, 2)
        q, k, v = (
            t.view(b, -1, 2, 4).transpose(1, 2) for t in (self.q(y), self.k(text), self.v(text))
        )
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, -1)
        return self.b(x + self.proj(out).transpose(1, 2).reshape(b, c, h, w))


@pattern()
class EinsumAttention(Base):
    def build(self):
        self.q, self.k, self.v = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 8, 1)

    def body(self, x):
        q, k, v = self.q(x).flatten(2), self.k(x).flatten(2), self.v(x).flatten(2)
        attention = torch.einsum("bci,bcj->bij", q, k).softmax(-1)
        return x + torch.einsum("bij,bcj->bci", attention, v).view_as(x)


@pattern((2, 3, 8, 8), (2, 4))
class TimeEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU()
        self.emb, self.conv = nn.Linear(4, 16), nn.Conv2d(8, 8, 3, padding=1)
        self.to_rgb = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x, t):
        x = self.a(x)
        emb = self.emb(self.act(t))
        while len(emb.shape) < len(x.shape):
            emb = emb[..., None]
        scale, shift = torch.chunk(emb, 2, dim=1)
        h = self.conv(self.act(self.norm(x) * (1 + scale) + shift))
        return self.to_rgb(x + h)


@pattern((2, 6))
class ModulatedConv(nn.Module):
    """StyleGAN2: the batch folded into the groups of one convolution, with demodulation."""

    def __init__(self):
        super().__init__()
        self.const = nn.Parameter(torch.randn(1, 8, 4, 4))
        self.style, self.weight = nn.Linear(6, 8), nn.Parameter(torch.randn(1, 6, 8, 3, 3))
        self.to_rgb = nn.Conv2d(6, 3, 1)

    def forward(self, z):
        b = z.shape[0]
        x = self.const.repeat(b, 1, 1, 1)
        weight = self.weight * self.style(z).view(b, 1, 8, 1, 1)
        demod = torch.rsqrt(weight.pow(2).sum([2, 3, 4]) + 1e-8)
        weight = (weight * demod.view(b, 6, 1, 1, 1)).view(b * 6, 8, 3, 3)
        out = F.conv2d(x.view(1, b * 8, 4, 4), weight, padding=1, groups=b).view(b, 6, 4, 4)
        return self.to_rgb(out.relu())


@pattern()
class PixelNorm(Base):
    def body(self, x):
        return x * torch.rsqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-8)


@pattern()
class Fourier(Base):
    """LaMa's spectral transform: real and imaginary parts stacked in the channels."""

    def build(self):
        self.conv, self.norm = nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16)

    def body(self, x):
        b, _, h, w = x.shape
        f = torch.fft.rfftn(x, dim=(-2, -1), norm="ortho")
        f = torch.stack((f.real, f.imag), dim=-1).permute(0, 1, 4, 2, 3).contiguous()
        f = self.norm(self.conv(f.view(b, -1, h, w // 2 + 1))).relu()
        f = f.view(b, -1, 2, h, w // 2 + 1).permute(0, 1, 3, 4, 2).contiguous()
        f = torch.complex(f[..., 0], f[..., 1])
        return x + torch.fft.irfftn(f, s=(h, w), dim=(-2, -1), norm="ortho")


@pattern()
class SeveralBranches(Base):
    last = 12

    def build(self):
        self.a, self.b = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 3, padding=1)

    def body(self, x):
        parts = [F.relu(conv(x)) for conv in (self.a, self.b)]
        return torch.cat(parts, dim=1) + torch.cat(parts[::-1], dim=1)


@pattern()
class CentreCrop(Base):
    def body(self, x):
        return F.pad(x, (1, 1, 1, 1), mode="reflect")[:, :, 2:-2, 1:-1] + x[..., 1:-1, :]


@pattern()
class PartialConvInPlace(Base):
    def build(self):
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def body(self, x):
        x = x.clone()
        x[:, :3] = self.conv(x[:, :3])
        return x


@pattern()
class RelativePositionBias(MultiHead):
    """A buffer of numbers that an embedding looks up, one bias a head."""

    def build(self):
        super().build()
        self.register_buffer("indices", torch.arange(64)[:, None] * 0 + torch.arange(64) % 7)
        self.bias = nn.Embedding(7, 2)

    def attend(self, q, k, v):
        scores = q @ k.transpose(-2, -1) + self.bias(self.indices).permute(2, 0, 1)
        return scores.softmax(-1) @ v


@pattern()
class AttentionMask(MultiHead):
    def build(self):
        super().build()
        self.mask = nn.Parameter(torch.randn(2, 64, 64))

    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, self.mask)


@pattern()
class GridSampled(Base):
    def build(self):
        self.offset = nn.Conv2d(8, 2, 1)

    def body(self, x):
        grid = torch.tanh(self.offset(x)).permute(0, 2, 3, 1)
        return F.grid_sample(x, grid, align_corners=False)


@pattern()
class CastLike(Base):
    def build(self):
        self.register_buffer("mean", torch.rand(1, 3, 1, 1))
        self.conv = nn.Conv2d(8, 8, 1)

    def body(self, x):
        return self.conv(x.type_as(self.mean)).view_as(x) + x


@pattern()
class UnfoldedPatches(Base):
    last = 8

    def build(self):
        self.mix = nn.Conv2d(72, 8, 1)

    def body(self, x):
        b, _, h, w = x.shape
        return self.mix(F.unfold(x, 3, padding=1).view(b, 72, h, w)).relu()


@pattern()
class UnitVectors(Base):
    def body(self, x):
        return x / (x.norm(dim=1, keepdim=True) + 1) * x.sum(1, keepdim=True)


@pattern()
class Normalised(Base):
    def body(self, x):
        return F.normalize(x, dim=1)


class StandardisedConv2d(nn.Conv2d):
    """Weight standardisation (Qiao 2019)."""

    def forward(self, x):
        weight = self.weight
        mean = weight.mean(dim=(1, 2, 3), keepdim=True)
        weight = weight - mean
        std = weight.view(weight.size(0), -1).std(dim=1).view(-1, 1, 1, 1) + 1e-5
        weight = weight / std.expand_as(weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


@pattern()
class StandardisedWeights(Base):
    last = 12

    def build(self):
        self.a, self.b = StandardisedConv2d(8, 8, 3, padding=1), StandardisedConv2d(8, 12, 1)

    def body(self, x):
        return self.b(torch.relu(self.a(x)) + x).relu()


@pattern()
class StandardisedAndScaled(Base):
    def build(self):
        self.weight = nn.Parameter(torch.randn(8, 8, 3, 3))
        self.gain = nn.Parameter(torch.rand(8, 1, 1, 1))

    def body(self, x):
        dims = [1, 2, 3]
        mean = self.weight.mean(dims, keepdim=True)
        var = self.weight.var(dims, keepdim=True, unbiased=False)
        scale = torch.rsqrt(torch.clamp(var * 72, min=1e-4)) * self.gain
        return F.conv2d(x, self.weight * scale - mean * scale, padding=1).relu()


@pattern()
class SpectralByHand(Base):
    """A spectral norm that the model computes itself from buffers."""

    def build(self):
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.register_buffer("u", F.normalize(torch.randn(8), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(72), dim=0))

    def body(self, x):
        height = self.conv.weight.shape[0]
        sigma = torch.dot(self.u, torch.mv(self.conv.weight.view(height, -1), self.v))
        return F.conv2d(x, self.conv.weight / sigma, self.conv.bias, padding=1).relu()


@pattern()
class CosineWeights(Base):
    def build(self):
        self.weight = nn.Parameter(torch.randn(8, 8, 1, 1))
        self.length = nn.Parameter(torch.rand(8, 1, 1, 1))

    def body(self, x):
        direction = F.normalize(self.weight, dim=1)
        weight = self.weight / torch.linalg.vector_norm(self.weight, dim=(1, 2, 3), keepdim=True)
        return F.conv2d(F.conv2d(x, direction).relu(), weight * self.length)


@pattern()
class FactorisedWeights(Base):
    """A weight that is a product of two: its rank can be narrowed as well."""

    def build(self):
        self.tall, self.wide = nn.Parameter(torch.randn(8, 6)), nn.Parameter(torch.randn(6, 72))

    def body(self, x):
        return F.conv2d(x, (self.tall @ self.wide).view(8, 8, 3, 3), padding=1).relu()


@pattern()
class MixedBySoftmax(Base):
    """Learned weights of two branches."""

    def build(self):
        self.a, self.b = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.alpha = nn.Parameter(torch.randn(2))

    def body(self, x):
        share = F.softmax(self.alpha, dim=0)
        return share[0] * self.a(x) + share[1] * self.b(x)


@pattern()
class SummedOverHeadsAndWidth(Base):
    """One sum reads two labelled dimensions of one tensor."""

    last = 4

    def build(self):
        self.a, self.b = nn.Linear(8, 6), nn.Linear(8, 5)
        self.gate = nn.Linear(1, 4)

    def body(self, x):
        pooled = x.mean((2, 3))
        outer = self.a(pooled)[:, :, None] * self.b(pooled)[:, None, :]
        gate = self.gate(outer.sum((1, 2))[:, None])
        return x[:, :4] * gate[:, :, None, None]


@pattern()
class MergedBranches(Base):
    """Writes the merged weight of two branches into a convolution before it runs."""

    def build(self):
        self.wide, self.thin = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1)
        self.merged = nn.Conv2d(8, 8, 3, padding=1)

    def body(self, x):
        thin = F.pad(self.thin.weight.data.clone(), (1, 1, 1, 1))
        self.merged.weight.data = self.wide.weight.data + thin
        self.merged.bias.data = self.wide.bias.data + self.thin.bias.data
        return torch.relu(self.merged(x))


@pattern()
class ChannelAttentionHeads(Base):
    """Weighs the width of each head, not positions, with keys of unit length."""

    last = 8

    def build(self):
        self.q, self.k, self.v = (nn.Linear(8, 8, bias=False) for _ in range(3))
        self.rescale = nn.Parameter(torch.ones(2, 1, 1))

    def heads(self, x):
        b, n, _ = x.shape
        return x.reshape(b, n, 2, 4).permute(0, 2, 1, 3).transpose(-2, -1)

    def body(self, x):
        b, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = (self.heads(f(tokens)) for f in (self.q, self.k, self.v))
        k = k / torch.linalg.vector_norm(k, dim=-1, keepdim=True).expand_as(k)
        scores = (k @ q.transpose(-2, -1)) * self.rescale
        out = scores.sigmoid() @ (v * self.heads(tokens))
        out = out.permute(0, 3, 1, 2).reshape(b, h * w, c)
        return out.transpose(1, 2).reshape(b, c, h, w)


from support import patterns_more  # noqa: E402, F401  the table goes on there
