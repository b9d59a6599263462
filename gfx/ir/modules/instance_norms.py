"""Computes InstanceNorms as torch does, without the copies that torch makes on a CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.instancenorm import _InstanceNorm

__all__ = ["FAST", "FastInstanceNorm1d", "FastInstanceNorm2d", "FastInstanceNorm3d"]

# the batch norm for channels-last input takes eight channels at a time, and the rest one by one;
# among this many the rest weighs little
_LANES, _MANY = 8, 64


class _FastInstanceNorm(_InstanceNorm):
    """Picks torch's fastest kernel for the memory layout of the input.

    torch's own instance_norm copies its input to one of shape (1, N·C, ...), and takes the
    statistics by the batch norm of training.

    1. Row by row: a group_norm of one channel per group.
    2. Channels last, a batch of one: the batch norm of training, whose kernel knows the layout.
    3. Channels last, more samples, or few channels and odd: written out. The group_norm of this
       layout is no choice: its variance is E[x²] - E[x]², which is not exact enough.
    4. Anything else, also while a graph is captured for export or by a compiler: torch's own.
    """

    def forward(self, input: Tensor) -> Tensor:  # as torch names it
        """Normalises each channel of each sample."""
        affine = (self.weight, self.bias)
        if isinstance(input, fx.Proxy):  # torch.fx knows torch's own layers only, and looks inside
            return F.instance_norm(input, None, None, *affine, eps=self.eps)
        if torch.compiler.is_compiling() or not _is_usual(self, input):
            return super().forward(input)  # rule 4
        size = input.shape[1]
        if not _is_channels_last(input):
            return F.group_norm(input, size, *affine, eps=self.eps)  # rule 1
        if len(input) == 1 and (size % _LANES == 0 or size >= _MANY):  # rule 2
            return F.batch_norm(input, None, None, *affine, training=True, eps=self.eps)
        return _written_out(input, *affine, self.eps)  # rule 3


class FastInstanceNorm1d(_FastInstanceNorm, nn.InstanceNorm1d):
    """An nn.InstanceNorm1d without running statistics, quick on a CPU."""


class FastInstanceNorm2d(_FastInstanceNorm, nn.InstanceNorm2d):
    """An nn.InstanceNorm2d without running statistics, quick on a CPU.

    Example:
        >>> x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> torch.allclose(FastInstanceNorm2d(3)(x), nn.InstanceNorm2d(3)(x), atol=1e-6)
        True
    """


class FastInstanceNorm3d(_FastInstanceNorm, nn.InstanceNorm3d):
    """An nn.InstanceNorm3d without running statistics, quick on a CPU."""


FAST: dict[type[nn.Module], type[_InstanceNorm]] = {
    nn.InstanceNorm1d: FastInstanceNorm1d,
    nn.InstanceNorm2d: FastInstanceNorm2d,
    nn.InstanceNorm3d: FastInstanceNorm3d,
}


def _is_usual(norm: Any, x: Tensor) -> bool:
    """Whether an input is a batch of more than one position on a CPU, of the norm's channels."""
    if x.device.type != "cpu" or norm.track_running_stats:
        return False
    ndim = next(n for n, kind in enumerate(FAST, start=3) if isinstance(norm, kind))
    return x.ndim == ndim and x.shape[1] == norm.num_features and x[0, 0].numel() > 1


def _is_channels_last(x: Tensor) -> bool:
    if x.ndim != 4 or x.is_contiguous():
        return False
    return x.is_contiguous(memory_format=torch.channels_last)


def _written_out(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Normalises by the mean, and the mean square of what is left of it."""
    rest = x - x.mean(dim=(2, 3), keepdim=True)
    scale = (rest.square().mean(dim=(2, 3), keepdim=True) + eps).rsqrt()
    if weight is not None:
        scale = scale * weight.view(-1, 1, 1)
    # nobody else holds `rest`, but autograd would
    rest = rest * scale if torch.is_grad_enabled() else rest.mul_(scale)
    return rest if bias is None else rest + bias.view(-1, 1, 1)
