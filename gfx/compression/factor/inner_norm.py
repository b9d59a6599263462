"""Adapts the pointwise weights to a norm after depthwise filters, which removes their scale.

Shapes: parts are depthwise, norm, pointwise.
"""

from typing import cast

import torch
from torch import Tensor, nn

from gfx.compression.factor.forms import Convolution
from gfx.compression.factor.kernels import bias_of, kernel_of, put, put_bias
from gfx.compression.factor.layer_data import LayerData
from gfx.compression.factor.least_squares import regressed

__all__ = ["for_white_inputs", "from_data", "mixed_after"]


def for_white_inputs(parts: nn.Sequential) -> None:
    """Makes parts with a norm compute what they compute without it, for white inputs.

    For independent inputs of mean 0 and variance 1, a filter's output has the variance ‖filter‖².
    A batch norm that has this as its running variance is undone exactly in eval mode; an instance
    norm is so in expectation.
    """
    power = kernel_of(cast(Convolution, parts[0])).square().sum(dim=(2, 3, 4)).flatten()
    if isinstance(parts[1], nn.BatchNorm2d):
        _set(parts[1], torch.zeros_like(power), power)
    _undo(parts, power)


def from_data(parts: nn.Sequential, data: LayerData) -> None:
    """Gives a batch norm the statistics of data, and undoes them: exact in eval mode."""
    norm = cast(nn.BatchNorm2d, parts[1])
    filters = kernel_of(cast(Convolution, parts[0])).flatten(2)
    patches = torch.cat([data.fit.patches, data.held.patches])
    read = patches.transpose(0, 1) @ filters.mT  # (inputs, rows, rank)
    mean, var = read.mean(1).flatten(), read.var(1, correction=0).flatten()
    bias = bias_of(cast(Convolution, parts[0]))
    _set(norm, mean if bias is None else mean + bias, var)
    norm.bias.copy_(mean / (var + norm.eps).sqrt())  # the mean that the norm subtracts
    _undo(parts, var)


def mixed_after(parts: nn.Sequential, data: LayerData) -> tuple[float, float]:
    """Solves for the pointwise weights that are optimal for a norm's output.

    Returns the relative errors on held-out rows, before and after.
    """
    pointwise = cast(Convolution, parts[2])
    reads: tuple[list[Tensor], list[Tensor]] = ([], [])
    for number, (x, _) in enumerate(data.batches()):
        between = parts[:2](x.to(pointwise.weight.device, pointwise.weight.dtype))
        for kind, sample in enumerate((data.to_fit, data.to_judge)):
            reads[kind].append(sample.places(number).of(between))
    fit, held = (torch.cat(r) for r in reads)
    before = _error(pointwise, held, data.held.targets)
    kernel, bias = kernel_of(pointwise), bias_of(pointwise)
    centre = fit.mean(0) if bias is not None else torch.zeros_like(fit[0])
    wanted = data.fit.targets.mean(0) if bias is not None else torch.zeros_like(data.fit.targets[0])
    rows = _grouped(fit - centre, pointwise.groups)
    left = _grouped(data.fit.targets - wanted, pointwise.groups) - rows @ kernel.flatten(2).mT
    change = torch.stack([regressed(f, e) for f, e in zip(rows, left, strict=True)])
    kernel = kernel + change[..., None, None]
    put(pointwise, kernel)
    if bias is not None:
        moved = kernel.flatten(2) @ centre.reshape(pointwise.groups, -1, 1)
        put_bias(pointwise, wanted - moved.flatten())
    return before, _error(pointwise, held, data.held.targets)


def _set(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor) -> None:
    norm.reset_parameters()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(var)


def _undo(parts: nn.Sequential, var: Tensor) -> None:
    """Multiplies the pointwise weights by the norm's divisor."""
    pointwise = cast(Convolution, parts[2])
    kernel = kernel_of(pointwise)
    scale = (var + cast(float, parts[1].eps)).sqrt()
    put(pointwise, kernel * scale.reshape(kernel.shape[0], 1, -1, 1, 1))


def _grouped(rows: Tensor, groups: int) -> Tensor:
    """Returns rows as (groups, rows, channels of one)."""
    return rows.reshape(len(rows), groups, -1).transpose(0, 1)


def _error(pointwise: Convolution, reads: Tensor, targets: Tensor) -> float:
    rows = _grouped(reads, pointwise.groups) @ kernel_of(pointwise).flatten(2).mT
    left = targets - rows.transpose(0, 1).flatten(1)
    bias = bias_of(pointwise)
    left = left if bias is None else left - bias
    return float(left.norm() / targets.norm().clamp_min(1e-300))
