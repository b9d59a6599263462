"""Layers in a row as functions of their tensors, each written out: what a split must equal."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from gfx.copies import deepcopy

__all__ = ["Pieces"]


class Pieces(nn.Module):
    """Computes what layers in a row compute, with no groups and with norms spelled out.

    Example:
        >>> conv = nn.Conv2d(4, 4, 3, groups=4)
        >>> x = torch.randn(1, 4, 8, 8)
        >>> torch.allclose(Pieces(nn.Sequential(conv))(x), conv(x), atol=1e-6)
        True
    """

    def __init__(self, parts: nn.Sequential) -> None:
        super().__init__()
        self.parts = nn.ModuleList(_ungrouped(deepcopy(part)) for part in parts)

    def forward(self, x: Tensor) -> Tensor:
        """Runs the pieces one after the other."""
        for part in self.parts:
            x = part(x) if isinstance(part, _ConvNd) else _normalised(part, x)
        return x


@torch.no_grad()
def _ungrouped(part: Any) -> Any:
    """Writes a grouped convolution as one with zeros between its groups."""
    if not isinstance(part, _ConvNd) or part.groups == 1:
        return part
    blocks = part.weight.chunk(part.groups)
    rows, columns = blocks[0].shape[:2]
    whole = part.weight.new_zeros(len(part.weight), columns * part.groups, *part.kernel_size)
    for i, block in enumerate(blocks):
        whole[i * rows : (i + 1) * rows, i * columns : (i + 1) * columns] = block
    part.groups, part.weight = 1, nn.Parameter(whole, requires_grad=part.weight.requires_grad)
    return part


def _normalised(norm: Any, x: Tensor) -> Tensor:
    """Subtracts means, divides by deviations, and applies scale and shift."""
    view = (1, -1, *[1] * (x.ndim - 2))
    if isinstance(norm, _BatchNorm) and not norm.training:
        mean, var = norm.running_mean.view(view), norm.running_var.view(view)  # type: ignore[union-attr]
    else:
        dims = [d for d in range(x.ndim) if d != 1 and (d or isinstance(norm, _BatchNorm))]
        mean, var = x.mean(dims, keepdim=True), x.var(dims, correction=0, keepdim=True)
    x = (x - mean) / (var + norm.eps).sqrt()
    return x if norm.weight is None else x * norm.weight.view(view) + norm.bias.view(view)
