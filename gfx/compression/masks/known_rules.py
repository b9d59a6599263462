"""What an operation does to numbers that are known whatever the inputs are: the rules.

A known value is a tensor that has the numbers which do not depend on the inputs, and NaN for all
others. Sizes of 1 stand for dimensions along which nothing changes, so that they broadcast.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm

from gfx.compression.masks.known_tensors import unknown_like

__all__ = [
    "MOVES",
    "POINTWISE",
    "SPATIAL",
    "along",
    "blocks_of",
    "contraction",
    "gated",
    "has_borders",
    "layer_output",
    "linear_map",
    "norm",
    "pads",
    "product",
    "quotient",
    "transformed",
]

# of each number alone; NaN gives NaN
POINTWISE = frozenset(
    "relu relu6 leaky_relu elu selu celu gelu silu mish sigmoid tanh hardtanh hardswish "
    "hardsigmoid softplus softsign logsigmoid log_sigmoid add sub mul div neg abs exp sqrt rsqrt "
    "square clamp clamp_min clamp_max clip sin cos prelu contiguous clone detach to float double "
    "half bfloat16 identity pow reciprocal log log1p expm1 erf tan atan asin sinh cosh asinh floor "
    "ceil round trunc tanhshrink softshrink conj resolve_conj".split()
)
# other places, same numbers; a window of equal numbers gives that number
MOVES = frozenset(
    "view reshape flatten unflatten permute transpose t movedim squeeze unsqueeze expand expand_as "
    "view_as reshape_as repeat repeat_interleave tile cat stack chunk split tensor_split unbind "
    "getitem narrow select index_select flip roll pixel_shuffle pixel_unshuffle channel_shuffle "
    "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_avg_pool1d "
    "adaptive_avg_pool2d adaptive_avg_pool3d mean interpolate upsample real imag complex "
    "view_as_real view_as_complex broadcast_to ravel unsafe_view slice split_with_sizes hstack "
    "vstack dstack fliplr flipud rot90 amax amin reflection_pad1d reflection_pad2d "
    "reflection_pad3d replication_pad1d replication_pad2d replication_pad3d".split()
)
# zeros stay zeros; other numbers change with the place, or with the size of the image
SPATIAL = frozenset(
    "pad avg_pool1d avg_pool2d avg_pool3d sum unfold fold dropout dropout1d dropout2d dropout3d "
    "feature_dropout".split()
)


def along(known: Tensor, dim: int, size: int) -> Tensor:
    """Returns the one number at each index of a dimension; NaN where it is not known, or not one.

    Of complex numbers it knows zero alone.

    Example:
        >>> along(torch.tensor([[1.0, 2.0], [1.0, 3.0]]), 1, 2)
        tensor([1., nan])
    """
    if known.is_complex():
        known = torch.where(known == 0, 0.0, torch.nan)
    rows = known.movedim(dim, 0).flatten(1) if known.ndim > 1 else known.reshape(-1, 1)
    first = rows[:, :1]
    one = (rows == first).all(1)
    return torch.where(one, first[:, 0], torch.nan).expand(size)


def product(a: Any, b: Any) -> Any:
    """Multiplies; zero times what is not known is zero."""
    found = a * b
    for factor in (a, b):
        zero = factor == 0
        if isinstance(zero, Tensor):
            found = torch.where(zero, torch.zeros_like(found), found)
        elif zero:
            found = torch.zeros_like(found)
    return found


def gated(known: Tensor, dim: int) -> Tensor:
    """Finds what a GLU makes: one half times the sigmoid of the other; zero if the first is."""
    value, gate = known.chunk(2, dim)
    found: Tensor = product(value, gate.sigmoid())
    return found


def quotient(a: Any, b: Any) -> Any:
    """Divides; zero by what is not known is zero: by another zero the model would give NaN."""
    found = a / b
    zero = torch.as_tensor(a == 0) & torch.as_tensor(b != 0)
    return torch.where(zero, torch.zeros_like(found), found)


def transformed(known: Tensor, dims: Sequence[int], like: Tensor) -> Tensor:
    """Finds what a Fourier transform makes of known values: a line of zeros stays one.

    Example:
        >>> known = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
        >>> transformed(known, [1], torch.empty(2, 2)).flatten().tolist()
        [0.0, nan]
    """
    zero = (known == 0).to(torch.uint8).amin(list(dims), keepdim=True).bool()
    return torch.where(zero, torch.zeros_like(unknown_like(like)), unknown_like(like))


def blocks_of(weight: Tensor, groups: int, transposed: bool) -> list[Tensor]:
    """Splits the weight of a convolution or linear layer by groups: (out, in, ...) each."""
    parts = weight.detach().chunk(groups) if groups > 1 else [weight.detach()]
    return [part.transpose(0, 1) if transposed else part for part in parts]


def linear_map(layer: Any) -> Tensor:
    """Returns what a convolution or linear layer multiplies by: (out, in, ...).

    Shapes: the groups of a convolution are written out, as blocks with zeros between; the other
    dimensions are those of the kernel.

    Example:
        >>> linear_map(nn.Conv2d(4, 6, 3, groups=2)).shape
        torch.Size([6, 4, 3, 3])
    """
    weight = layer.weight
    groups, turned = getattr(layer, "groups", 1), isinstance(layer, _ConvTransposeNd)
    parts = blocks_of(weight, groups, turned)
    if groups == 1:
        return parts[0]
    rows, columns = parts[0].shape[:2]
    whole = parts[0].new_zeros(rows * groups, columns * groups, *weight.shape[2:])
    for i, part in enumerate(parts):
        whole[i * rows : (i + 1) * rows, i * columns : (i + 1) * columns] = part
    return whole


def pads(layer: Any) -> bool:
    """Whether some outputs of a layer sum over fewer inputs than others: borders, or strides."""
    if not isinstance(layer, _ConvNd):
        return False
    if isinstance(layer, _ConvTransposeNd):
        return True
    return layer.padding_mode == "zeros" and has_borders(layer.padding, layer.kernel_size)


def has_borders(padding: Any, kernel: Sequence[int]) -> bool:
    """Whether a convolution adds zeros around its input."""
    if isinstance(padding, str):
        return padding == "same" and any(k > 1 for k in kernel)
    return any(int(p) > 0 for p in (padding if isinstance(padding, Sequence) else [padding]))


def contraction(parts: Sequence[Tensor], known: Tensor, bias: Tensor | None, pads: bool) -> Tensor:
    """Finds the outputs of a convolution or linear layer that are one number each.

    Args:
        parts: its weight by groups, each (out, in, ...); NaN where it is not known.
        known: by input channel its one number, NaN if it has none.
        bias: of the layer.
        pads: whether constants give other numbers at borders.

    Returns: the same as `known`, by output channel.
    """
    found = []
    for part, x in zip(parts, known.chunk(len(parts)), strict=True):
        matrix = part.flatten(2) if part.ndim > 2 else part.unsqueeze(2)
        open_ = x.isnan() | ((x != 0) & pads)
        depends = ((matrix != 0).any(2) & open_).any(1)
        given = torch.where((x == 0) | open_, 0, matrix.double().sum(2) * x).sum(1)
        found.append(torch.where(depends, torch.nan, given))
    made = torch.cat(found)
    return (made if bias is None else made + bias.detach()).to(known.dtype)


def layer_output(layer: Any, known: Tensor) -> Tensor:
    """Finds the outputs of a layer of torch.nn that are one number each, see `contraction`."""
    turned = isinstance(layer, _ConvTransposeNd)
    parts = blocks_of(layer.weight, getattr(layer, "groups", 1), turned)
    return contraction(parts, known, layer.bias, pads(layer))


def norm(layer: Any, known: Tensor, ndim: int) -> Tensor | None:
    """Finds what a norm makes of known values; None if it is of another kind.

    1. A scale of zero leaves the shift.
    2. BatchNorm is the affine map of its statistics. In training it has those of the batch, which
       are the zero that it reads: both must give the same.
    3. InstanceNorm makes zeros of every constant, then the shift.
    """
    if not isinstance(layer, _BatchNorm | _InstanceNorm | nn.GroupNorm | nn.LayerNorm):
        return None
    weight, bias = (_detached(getattr(layer, name, None)) for name in ("weight", "bias"))
    if isinstance(layer, nn.LayerNorm):
        view = [1] * (ndim - len(layer.normalized_shape)) + list(layer.normalized_shape)
    else:
        view = [1, -1, *[1] * (ndim - 2)]
    shift = (known.new_zeros(()) if bias is None else bias.view(view)).to(known.dtype)
    found = known * torch.nan
    if isinstance(layer, _BatchNorm):
        found = _batch_norm(layer, known, shift)
    elif isinstance(layer, _InstanceNorm) and not layer.track_running_stats:
        exact = known.dtype in (torch.float32, torch.float64)
        found = torch.where((known == 0) | (exact & ~known.isnan()), shift, torch.nan)
    if weight is None:
        return found
    return torch.where(weight.view(view) == 0, shift, found)


def _batch_norm(layer: Any, known: Tensor, shift: Tensor) -> Tensor:
    """Applies rule 2."""
    trained = torch.where(known == 0, shift, torch.nan)
    if layer.running_mean is None:
        return trained
    shape = (1, layer.num_features, *[1] * (known.ndim - 2))
    x = known.expand(*known.shape[:1], layer.num_features, *known.shape[2:])
    vectors = (layer.running_mean, layer.running_var, _detached(layer.weight))
    mean, var, scale = (None if v is None else v.to(known.dtype).view(shape) for v in vectors)
    assert mean is not None
    assert var is not None
    found: Tensor = (x - mean) / (var + layer.eps).sqrt() * (1 if scale is None else scale) + shift
    if not layer.training:
        return found
    return torch.where(found == trained, found, torch.nan)


def _detached(value: Any) -> Tensor | None:
    return None if value is None else value.detach()
