"""Reads and writes the weight of a convolution as one kernel tensor, transposed or not.

Shapes: a kernel is (groups, outputs per group, inputs per group, height, width), float64.
"""

import torch
from torch import Tensor, nn

from gfx.compression.factor.forms import Convolution

__all__ = ["bias_of", "kernel_of", "put", "put_bias", "refine"]


def kernel_of(module: Convolution) -> Tensor:
    """Returns the kernel of a convolution, transposed or not."""
    weight = module.weight.detach()
    if weight.device.type == "mps":  # it has no float64
        weight = weight.cpu()
    weight = weight.double()
    rows = weight.reshape(module.groups, -1, *weight.shape[1:])
    return rows.transpose(1, 2) if module.transposed else rows


def bias_of(module: Convolution) -> Tensor | None:
    """Returns the bias of a convolution in float64, or None."""
    if module.bias is None:
        return None
    bias = module.bias.detach()
    return (bias.cpu() if bias.device.type == "mps" else bias).double()


def put(module: Convolution, kernel: Tensor) -> None:
    """Sets a convolution's kernel; device and dtype stay."""
    rows = kernel.transpose(1, 2) if module.transposed else kernel
    weight = rows.flatten(0, 1).contiguous().to(module.weight.device, module.weight.dtype)
    module.weight = nn.Parameter(weight, requires_grad=module.weight.requires_grad)


def put_bias(module: Convolution, bias: Tensor) -> None:
    """Sets a convolution's bias."""
    assert module.bias is not None
    value = bias.clone().to(module.bias.device, module.bias.dtype)
    module.bias = nn.Parameter(value, requires_grad=module.bias.requires_grad)


def refine(kernel: Tensor, groups: int) -> Tensor:
    """Expands a kernel of many groups to fewer groups, with zeros between the old ones."""
    many, outputs, inputs, *area = kernel.shape
    each = many // groups
    rows = kernel.reshape(groups, each, outputs, inputs, *area)
    whole = rows.new_zeros(groups, each, outputs, each, inputs, *area)
    places = torch.arange(each, device=kernel.device)
    whole[:, places, :, places] = rows.transpose(0, 1)
    return whole.reshape(groups, each * outputs, each * inputs, *area)
