"""Norms: torch.nn's own, functional ones with buffers, and those that papers write out."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["APPROXIMATE", "NORMS", "norm"]

NORMS = (
    "none",
    "batch",
    "batch_plain",
    "instance",
    "instance_affine",
    "functional",
    "group",
    "group_each",
    "pixel",
    "unit",
)
# removal of channels cannot be exact there
APPROXIMATE = ("layer_by_hand", "layer_first", "layer_last", "group_one", "adaptive_layer")


def norm(kind: str, channels: int, rank: int = 2) -> list[nn.Module]:
    batch = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1]
    instance = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[rank - 1]
    return {
        "none": lambda: [],
        "batch": lambda: [batch(channels)],
        "batch_plain": lambda: [batch(channels, affine=False)],
        "instance": lambda: [instance(channels)],
        "instance_affine": lambda: [instance(channels, affine=True)],
        "functional": lambda: [_FunctionalBatch(channels)],
        "group": lambda: [nn.GroupNorm(channels if channels % 2 else 2, channels)],
        "group_each": lambda: [nn.GroupNorm(channels, channels)],
        "pixel": lambda: [_Pixel()],
        "unit": lambda: [_Unit()],
        "layer_by_hand": lambda: [_LayerByHand(channels, rank)],
        "layer_first": lambda: [_LayerFirst(channels, rank)],
        "layer_last": lambda: [_LayerLast(channels)],
        "group_one": lambda: [nn.GroupNorm(1, channels)],
        "adaptive_layer": lambda: [_AdaptiveLayer(channels, rank)],
    }[kind]()


class _FunctionalBatch(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(channels))
        self.shift = nn.Parameter(torch.empty(channels))
        self.register_buffer("mean", torch.empty(channels))
        self.register_buffer("running_var", torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.running_var, self.gain, self.shift, training=False)


class _Pixel(nn.Module):
    """Progressive GAN's: each position divided by the root mean square of its channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-2)


class _Unit(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / (x.norm(dim=1, keepdim=True) + 1)


class _LayerByHand(nn.Module):
    """Means and mean squares over the channels, written out."""

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(channels, *[1] * rank))

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(1, keepdim=True)
        return x / torch.sqrt(x.pow(2).mean(1, keepdim=True) + 1e-2) * self.gain


class _LayerFirst(nn.Module):
    """ConvNeXt's channels-first LayerNorm with torch's own variance."""

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.shape = (1, -1, *[1] * rank)

    def forward(self, x: Tensor) -> Tensor:
        spread = x.var(1, keepdim=True, unbiased=False)
        x = (x - x.mean(1, keepdim=True)) / torch.sqrt(spread + 1e-2)
        return x * self.weight.view(self.shape) + self.bias.view(self.shape)


class _LayerLast(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.transpose(1, -1)).transpose(1, -1)


class _AdaptiveLayer(nn.Module):
    """U-GAT-IT's ILN: instance and layer statistics, mixed by a parameter per channel."""

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        ones = [1] * rank
        self.rho = nn.Parameter(torch.empty(1, channels, *ones))
        self.gain = nn.Parameter(torch.empty(1, channels, *ones))
        self.expanded = (-1, *ones)
        self.positions = list(range(2, 2 + rank))

    def forward(self, x: Tensor) -> Tensor:
        instance, layer = self.over(x, self.positions), self.over(x, [1, *self.positions])
        mixed = self.rho.expand(x.shape[0], *self.expanded) * instance + (1 - self.rho) * layer
        return mixed * self.gain

    def over(self, x: Tensor, dims: list[int]) -> Tensor:
        mean, var = x.mean(dims, keepdim=True), x.var(dims, keepdim=True, unbiased=False)
        return (x - mean) / torch.sqrt(var + 1e-2)
