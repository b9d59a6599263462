"""Small generators whose norms or softmax look at several channels at once.

Each takes the width of its body, so that what is pruned can be compared with the same source built
narrower: the independent judge of what gfx marks approximate.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["APPROXIMATE", "Body"]

APPROXIMATE: dict[str, type["Body"]] = {}


class Body(nn.Module):
    """A first and a last convolution around a body of the given width."""

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        APPROXIMATE[cls.__name__] = cls

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.build(width)
        self.to_rgb = nn.Conv2d(width, 3, 3, padding=1)

    def build(self, width: int) -> None:
        """Makes the body's modules."""

    def body(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.to_rgb(self.body(torch.relu(self.first(x))))


class LayerNormLast(Body):
    def build(self, width):
        self.norm, self.mlp = nn.LayerNorm(width), nn.Linear(width, width)

    def body(self, x):
        y = self.mlp(self.norm(x.permute(0, 2, 3, 1)))
        return x + F.gelu(y).permute(0, 3, 1, 2)


class LayerNormTokens(Body):
    def build(self, width):
        self.norm = nn.LayerNorm(width, elementwise_affine=False)

    def body(self, x):
        b, c, h, w = x.shape
        return self.norm(x.flatten(2).transpose(1, 2)).transpose(1, 2).view(b, c, h, w)


class LayerNormFunction(Body):
    def build(self, width):
        self.gain, self.shift = nn.Parameter(torch.rand(width)), nn.Parameter(torch.rand(width))

    def body(self, x):
        y = x.permute(0, 2, 3, 1)
        return F.layer_norm(y, y.shape[-1:], self.gain, self.shift, 1e-6).permute(0, 3, 1, 2)


class LayerNormLiteral(Body):
    def body(self, x):
        channels = self.first.out_channels
        return F.layer_norm(x.permute(0, 2, 3, 1), [channels]).permute(0, 3, 1, 2)


class LayerNormImage(Body):
    def build(self, width):
        self.norm = nn.LayerNorm((width, 8, 8), elementwise_affine=False)

    def body(self, x):
        return self.norm(x)


class LayerNormByHand(Body):
    """ConvNeXt's channels-first LayerNorm."""

    def build(self, width):
        self.weight, self.bias = nn.Parameter(torch.rand(width)), nn.Parameter(torch.rand(width))

    def body(self, x):
        mean = x.mean(1, keepdim=True)
        var = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(var + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class LayerNormBySpread(Body):
    """Restormer's LayerNorm: tokens, mean and biased variance over the last dimension."""

    def build(self, width):
        self.weight = nn.Parameter(torch.rand(width))

    def body(self, x):
        b, c, h, w = x.shape
        y = x.view(b, c, h * w).permute(0, 2, 1)
        mu = y.mean(-1, keepdim=True)
        sigma = y.var(-1, keepdim=True, unbiased=False)
        y = (y - mu) / torch.sqrt(sigma + 1e-5) * self.weight
        return y.permute(0, 2, 1).reshape(b, c, h, w)


class VarianceOnly(Body):
    def body(self, x):
        return x / torch.sqrt(x.var(dim=1, keepdim=True, unbiased=False) + 1e-5)


class VarianceAndMean(Body):
    def body(self, x):
        var, mean = torch.var_mean(x, dim=[1, 2, 3], keepdim=True)
        return (x - mean) * torch.rsqrt(var + 1e-5)


class LayerNormOfImages(Body):
    """MUNIT's LayerNorm: mean and deviation of each flattened image."""

    def build(self, width):
        self.gamma, self.beta = nn.Parameter(torch.rand(width)), nn.Parameter(torch.zeros(width))

    def body(self, x):
        shape = [-1] + [1] * (x.dim() - 1)
        mean = x.view(x.size(0), -1).mean(1).view(*shape)
        std = x.view(x.size(0), -1).std(1).view(*shape)
        x = (x - mean) / (std + 1e-5)
        shape = [1, -1] + [1] * (x.dim() - 2)
        return x * self.gamma.view(*shape) + self.beta.view(*shape)


class InstanceLayerNorm(Body):
    """U-GAT-IT's ILN: a learned mix of instance and layer statistics."""

    def build(self, width):
        self.rho = nn.Parameter(torch.rand(1, width, 1, 1))
        self.gamma, self.beta = nn.Linear(width, width), nn.Linear(width, width)

    def body(self, x):
        style = x.mean((2, 3))
        in_mean, in_var = x.mean([2, 3], keepdim=True), x.var([2, 3], keepdim=True)
        ln_mean, ln_var = x.mean([1, 2, 3], keepdim=True), torch.var(x, [1, 2, 3], keepdim=True)
        by_instance = (x - in_mean) / torch.sqrt(in_var + 1e-5)
        by_layer = (x - ln_mean) / torch.sqrt(ln_var + 1e-5)
        out = self.rho.expand(x.shape[0], -1, -1, -1) * by_instance + (1 - self.rho) * by_layer
        gamma, beta = self.gamma(style), self.beta(style)
        return out * gamma.unsqueeze(2).unsqueeze(3) + beta.unsqueeze(2).unsqueeze(3)


class GroupNormOfOne(Body):
    def build(self, width):
        self.norm, self.plain = nn.GroupNorm(1, width), nn.GroupNorm(1, width, affine=False)

    def body(self, x):
        return self.plain(torch.relu(self.norm(x)))


class ChannelSoftmax(Body):
    def body(self, x):
        return x * torch.softmax(x, dim=1)


class ChannelSoftmaxModules(Body):
    def build(self, width):
        self.softmax, self.log = nn.Softmax(dim=1), nn.LogSoftmax(dim=1)
        self.maps = nn.Softmax2d()

    def body(self, x):
        return self.softmax(x) + self.log(x) * self.maps(x)


class GatedByChannelSoftmax(Body):
    def build(self, width):
        self.gate = nn.Linear(width, width)

    def body(self, x):
        gate = self.gate(x.mean((2, 3))).softmax(dim=-1)
        return x * gate[..., None, None]


class TransposedAttention(Body):
    """Restormer's attention: its softmax runs over channels."""

    def build(self, width):
        self.qkv, self.out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)
        self.temperature = nn.Parameter(torch.ones(1, 1, 1))

    def body(self, x):
        b, c, h, w = x.shape
        q, k, v = (part.reshape(b, c, h * w) for part in self.qkv(x).chunk(3, dim=1))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        attention = (q @ k.transpose(-2, -1)) * self.temperature
        return x + self.out((attention.softmax(dim=-1) @ v).view(b, c, h, w))


class LargestChannel(Body):
    def body(self, x):
        most, _ = torch.max(x, dim=1, keepdim=True)
        return x * (most - x.amin(1, keepdim=True)) + x.logsumexp(1, keepdim=True)
