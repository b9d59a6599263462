"""Infers the output shape of a layer of torch or gfx in closed form, without running it.

Fake tensors cost a fraction of a millisecond for each operation, and several the first time. Most
layers of a generator keep the shape of their input, or are convolutions. An unusual case (mixed
types or devices, a memory layout that is not contiguous, a wrong number of channels) is no error:
the result is None, and the caller runs the layer on fake tensors instead.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from gfx.ir.modules import (
    MASKED,
    OWN,
    ChannelMask,
    CsrLinear,
    Penalty,
    SemiStructuredLinear,
    Tap,
    is_index,
)

__all__ = ["infer_shape", "returns_input"]

Shape = tuple[int, ...]

# elementwise: in inference each output depends on one element alone
_POINTWISE = (
    nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU,
    nn.Mish, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softplus, nn.Softsign,
)  # fmt: skip
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_SPARSE = (CsrLinear, SemiStructuredLinear)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_PLAIN: dict[type[nn.Module], type[nn.Module]] = {masked: plain for plain, masked in MASKED.items()}
_BATCH_NORMS = {nn.BatchNorm1d: 3, nn.BatchNorm2d: 4, nn.BatchNorm3d: 5}
_INSTANCE_NORMS = {nn.InstanceNorm1d: 3, nn.InstanceNorm2d: 4, nn.InstanceNorm3d: 5}


def infer_shape(leaf: nn.Module, args: tuple[Any, ...]) -> Shape | None:
    """Infers the output shape of a layer called on one tensor; None if that is not certain.

    The output then is a new tensor, contiguous, of the input's type and device.

    Example:
        >>> infer_shape(nn.Conv2d(3, 8, 3), (torch.empty(1, 3, 16, 16),))
        (1, 8, 14, 14)
        >>> infer_shape(nn.Conv2d(3, 8, 3), (torch.empty(1, 4, 16, 16),)) is None
        True
    """
    kind = _PLAIN.get(type(leaf), type(leaf))
    if isinstance(leaf, ChannelMask) and args and _plain(leaf, args[0]):
        return _masked(leaf, *args)
    if isinstance(leaf, _SPARSE) and len(args) == 1:  # fake tensors have no such layouts
        return _linear(leaf, args[0])
    if len(args) != 1 or not _plain(leaf, args[0]):
        return None
    x = args[0]
    shape = tuple(x.shape)
    if kind in _POINTWISE:
        return None if getattr(leaf, "inplace", False) else shape
    if kind in _CONVS or kind in _TRANSPOSED:
        return _conv(leaf, x)
    return shape if _fits_norm(leaf, shape) else None


def returns_input(leaf: nn.Module, args: tuple[Any, ...]) -> bool:
    """Whether a layer returns its input tensor itself, possibly overwritten elementwise.

    Example:
        >>> returns_input(nn.ReLU(inplace=True), (torch.empty(1, 3, 16, 16),))
        True
    """
    if len(args) != 1 or leaf._forward_hooks or leaf._forward_pre_hooks:
        return False
    if type(leaf) in (Penalty, Tap):
        return True
    elementwise = type(leaf) in _POINTWISE and getattr(leaf, "inplace", False)
    return elementwise and _plain(leaf, args[0])


def _plain(leaf: nn.Module, x: Any) -> bool:
    """Whether a layer's input and tensors are floats of one type, on one device, laid out plainly.

    Autocast changes types, hooks change anything.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point() or not x.is_contiguous():
        return False
    if not x.numel() or torch.is_autocast_enabled(x.device.type):
        return False
    if leaf._modules or leaf._forward_hooks or leaf._forward_pre_hooks:
        return False
    names = ("mask", *filter(is_index, leaf._buffers)) if type(leaf) in OWN else ()
    held = [
        (n, t) for g in (leaf._parameters, leaf._buffers) for n, t in g.items() if t is not None
    ]
    return all(
        # a BatchNorm counts its batches, and a mask gives the type of what it masks
        (t.dtype == x.dtype or not t.ndim or name in names)
        and (t.device == x.device or t.is_meta)
        and t.is_contiguous()
        and type(t) in (Tensor, nn.Parameter)
        for name, t in held
    )


def _masked(mask: ChannelMask, x: Tensor, dim: int = 1, index: Any = None) -> Shape | None:
    """Infers the output shape of a mask, whose entries (or index) must divide the positions."""
    if not -x.ndim <= dim < x.ndim:
        return None
    given = mask.mask if index is None else index
    fits = mask.mask.device == x.device and given.device == x.device
    whole = given.ndim == 1 and given.numel() and x.shape[dim] % given.numel() == 0
    return tuple(x.shape) if fits and whole else None


def _linear(leaf: CsrLinear | SemiStructuredLinear, x: Any) -> Shape | None:
    """Infers the output shape of a product with a sparse weight."""
    if leaf._forward_hooks or leaf._forward_pre_hooks or not isinstance(x, Tensor):
        return None
    fits = x.ndim > 0 and x.shape[-1] == leaf.in_features
    same = all(p.dtype == x.dtype for p in leaf.parameters())
    return (*x.shape[:-1], leaf.out_features) if fits and same else None


def _conv(leaf: Any, x: Tensor) -> Shape | None:
    """Sizes a convolution that fits; None if it does not, or is unusual."""
    weight, bias, groups = leaf.weight, leaf.bias, leaf.groups
    if leaf.padding_mode != "zeros" or isinstance(leaf.padding, str) or x.ndim != weight.ndim:
        return None
    turned = isinstance(leaf, _TRANSPOSED)
    read, made = weight.shape[:2] if turned else (weight.shape[1] * groups, weight.shape[0])
    made = made * groups if turned else made
    if x.shape[1] != read or read % groups or made % groups or not weight.numel():
        return None
    if bias is not None and tuple(bias.shape) != (made,):
        return None
    if any(n and n >= step for n, step in zip(leaf.output_padding, leaf.stride, strict=True)):
        return None
    places = (leaf.stride, leaf.padding, leaf.dilation, leaf.output_padding)
    if any(len(place) != x.ndim - 2 for place in places) or min(*leaf.stride, *leaf.dilation) < 1:
        return None
    if min(leaf.padding) < 0:
        return None
    sizes = []
    for n, k, s, p, d, more in zip(x.shape[2:], weight.shape[2:], *places, strict=True):
        reach = d * (k - 1) + 1
        sizes.append((n - 1) * s - 2 * p + reach + more if turned else (n + 2 * p - reach) // s + 1)
    # fake tensors will say what is wrong
    return (x.shape[0], made, *sizes) if min(sizes) > 0 else None


def _fits_norm(leaf: Any, shape: Shape) -> bool:
    """Whether a layer is a norm, of as many channels as its input has."""
    kind = type(leaf)
    if kind in _BATCH_NORMS:
        vectors = (leaf.weight, leaf.bias, leaf.running_mean, leaf.running_var)
        ranks = (2, 3) if kind is nn.BatchNorm1d else (_BATCH_NORMS[kind],)
        known = leaf.running_mean is not None and leaf.running_var is not None
        return known and len(shape) in ranks and _sized(vectors, shape[1], leaf.num_features)
    if kind in _INSTANCE_NORMS:
        vectors = (leaf.weight, leaf.bias, leaf.running_mean, leaf.running_var)
        batched = len(shape) == _INSTANCE_NORMS[kind] and math.prod(shape[2:]) > 1
        return batched and _sized(vectors, shape[1], leaf.num_features)
    if kind is nn.GroupNorm:
        channels, groups = leaf.num_channels, leaf.num_groups
        if len(shape) < 2 or shape[1] != channels or channels % groups:
            return False
        several = math.prod(shape) > groups  # one value has no statistics
        return several and _sized((leaf.weight, leaf.bias), shape[1], channels)
    if kind is nn.LayerNorm:
        last = tuple(leaf.normalized_shape)
        fits = all(t is None or tuple(t.shape) == last for t in (leaf.weight, leaf.bias))
        return fits and shape[len(shape) - len(last) :] == last and len(shape) >= len(last)
    return False


def _sized(vectors: tuple[Tensor | None, ...], *counts: int) -> bool:
    """Whether all vectors have so many elements."""
    sizes = {*counts, *(t.numel() for t in vectors if t is not None)}
    return len(sizes) == 1 and all(t is None or t.ndim == 1 for t in vectors)
