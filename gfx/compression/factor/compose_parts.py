"""Composes a chain of convolutions into the one convolution that it equals.

A reference program calls the parts of a layer one after the other as functions of their tensors.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from gfx.compression.factor.forms import Convolution
from gfx.compression.factor.kernels import bias_of, kernel_of, put, put_bias, refine
from gfx.compression.factor.parts import Pair, Part
from gfx.ir.deepcopy import deepcopy

__all__ = ["Pieces", "chained", "compose", "joined"]


@torch.no_grad()
def compose(parts: nn.Sequential) -> Convolution:
    """Returns the one dense convolution that parts without a norm equal.

    The parts are those that `factor` returns: in each direction, at most one of them is spatial.
    Dtype, device, training mode and requires_grad are those of the last part.

    Raises: ValueError if one of the parts is no convolution.

    Example:
        >>> from gfx.compression.factor import Form, factor
        >>> layer = nn.Conv2d(4, 8, 3, padding=1)
        >>> twin = compose(factor(layer, Form(rank=9)))
        >>> torch.allclose(twin.weight, layer.weight, atol=1e-6), twin.padding
        (True, (1, 1))
    """
    for part in parts:
        if not isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            raise ValueError(f"a {type(part).__name__} among the parts: no convolution equals them")
    chain = cast(list[Convolution], list(parts))
    last = chain[-1]
    kernel, bias = joined(chain)
    whole = (
        _settings(chain)
        .build(device="meta", dtype=last.weight.dtype)
        .to_empty(device=last.weight.device)
    )
    put(whole, kernel)
    if bias is not None:
        put_bias(whole, bias)
    for name, parameter in whole.named_parameters():
        parameter.requires_grad_(getattr(last, name).requires_grad)
    return whole.train(last.training)


def joined(chain: list[Convolution]) -> tuple[Tensor, Tensor | None]:
    """Returns the kernel and the bias of a chain of convolutions."""
    groups = min(m.groups for m in chain)
    bias = None
    for module in chain:
        own = bias_of(module)
        if bias is not None:  # nothing spatial comes after a part with a bias
            after = refine(kernel_of(module), groups)
            bias = torch.einsum("gomyx,gm->go", after, bias.reshape(groups, -1)).flatten()
        bias = own if bias is None else bias if own is None else bias + own
    return chained([kernel_of(m) for m in chain], groups), bias


def chained(kernels: list[Tensor], groups: int) -> Tensor:
    """Returns the kernel of convolutions one after the other, of which one at most is spatial."""
    whole = refine(kernels[0], groups)
    for kernel in kernels[1:]:
        after = refine(kernel, groups)
        sides = [after.shape[d] * whole.shape[d] for d in (3, 4)]
        whole = torch.einsum("gomYX,gmiyx->goiYyXx", after, whole)
        whole = whole.reshape(*whole.shape[:3], *sides)
    return whole


def _settings(chain: list[Convolution]) -> Part:
    """Returns the kernel size, stride and padding of all parts together."""
    pads = [m.padding for m in chain]
    words = [p for p in pads if isinstance(p, str)]
    modes = [m.padding_mode for m in chain if m.padding_mode != "zeros"]
    return Part(
        "",
        any(m.transposed for m in chain),
        chain[0].in_channels,
        chain[-1].out_channels,
        min(m.groups for m in chain),
        any(m.bias is not None for m in chain),
        _largest([m.kernel_size for m in chain]),
        _largest([m.stride for m in chain]),
        words[0] if words else _largest([p for p in pads if not isinstance(p, str)]),
        _largest([m.output_padding for m in chain]),
        _largest([m.dilation for m in chain]),
        modes[0] if modes else "zeros",
    )


def _largest(pairs: list[tuple[int, ...]]) -> Pair:
    """Returns, for each direction, the setting of the part that is spatial there."""
    return max(p[0] for p in pairs), max(p[1] for p in pairs)


class Pieces(nn.Module):
    """Runs a chain of layers with norms as formulas and without groups.

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
