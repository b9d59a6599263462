"""Lays out the parts of a form: their names, channels and settings, and their cost.

One part is spatial, or one for each direction; it alone takes over stride, padding and dilation.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn

from gfx.compression.factor.forms import Convolution, Form, full_ranks
from gfx.costs import Macs
from gfx.costs.mac_formulas import conv

__all__ = ["Part", "layout", "macs", "parameters", "rank_of", "ranks_of", "skeleton", "whole"]

Pair = tuple[int, int]
_HALF_OF = 1024  # side of the image on which a default rank is priced


@dataclass(frozen=True)
class Part:
    """One convolution of a form."""

    name: str
    transposed: bool
    inputs: int
    outputs: int
    groups: int
    bias: bool
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair | str = (0, 0)
    output_padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    mode: str = "zeros"

    def build(self, **where: Any) -> Convolution:
        """Builds the convolution as torch does; `where` is its device and dtype."""
        more: dict[str, Any] = {"bias": self.bias, "groups": self.groups, "stride": self.stride}
        more |= {"padding": self.padding, "dilation": self.dilation, **where}
        if self.transposed:
            more["output_padding"] = self.output_padding
            return nn.ConvTranspose2d(self.inputs, self.outputs, self.kernel, **more)
        more["padding_mode"] = self.mode
        return nn.Conv2d(self.inputs, self.outputs, self.kernel, **more)

    @property
    def weight(self) -> tuple[int, ...]:
        """The weight's shape, as torch has it."""
        if self.transposed:
            return (self.inputs, self.outputs // self.groups, *self.kernel)
        return (self.outputs, self.inputs // self.groups, *self.kernel)

    @property
    def parameters(self) -> int:
        """The number of weights and biases."""
        return prod(self.weight) + self.outputs * self.bias

    def out(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape of the output, (N, C, H, W)."""
        return (shape[0], self.outputs, *(self._side(d, shape[2 + d]) for d in (0, 1)))

    def _side(self, dim: int, size: int) -> int:
        reach = self.dilation[dim] * (self.kernel[dim] - 1)
        if self.padding == "same":
            return size
        padding = 0 if isinstance(self.padding, str) else self.padding[dim]
        if self.transposed:
            grown = (size - 1) * self.stride[dim] - 2 * padding
            return grown + reach + self.output_padding[dim] + 1
        return (size + 2 * padding - reach - 1) // self.stride[dim] + 1


def layout(module: Convolution, form: Form) -> list[Part]:
    """Lists the convolutions of a form, in the order in which they run."""
    ranks = ranks_of(module, form)
    return _LAYOUTS[form.kind](module, *ranks)


def rank_of(module: Convolution, form: Form) -> int:
    """Returns the rank of a form for a layer (the larger one of a Tucker form).

    Example:
        >>> layer = nn.Conv2d(8, 16, 3)
        >>> rank_of(layer, Form()), rank_of(layer, Form(rank=0.5)), rank_of(layer, Form(rank=99))
        (1, 5, 9)
    """
    return max(ranks_of(module, form))


def parameters(module: Convolution, form: Form) -> int:
    """Counts the parameters of a form of a layer, without building it.

    Example:
        >>> parameters(nn.Conv2d(8, 16, 3), Form())
        224
    """
    parts = layout(module, form)
    affine = 2 * parts[0].outputs if form.norm == "batch" else 0
    return sum(part.parameters for part in parts) + affine


def macs(module: Convolution, form: Form, shape: tuple[int, ...]) -> Macs:
    """Counts the multiply-accumulates of a form of a layer, without building it.

    Shapes: that of the layer's input, (N, C, H, W).

    Example:
        >>> macs(nn.Conv2d(8, 16, 3, padding=1), Form(), (1, 8, 4, 4)).exact
        3200
    """
    parts = layout(module, form)
    total = _macs(parts, shape)
    if form.norm == "instance":
        return Macs(total.exact, total.output, total.output_norm + prod(parts[0].out(shape)))
    return total


def skeleton(module: Convolution, form: Form, device: torch.device | str = "meta") -> nn.Sequential:
    """Builds the parts of a form on a device, with weights as torch draws them.

    Example:
        >>> [name for name, _ in skeleton(nn.Conv2d(8, 16, 3), Form(norm="batch")).named_children()]
        ['depthwise', 'norm', 'pointwise']
    """
    where: dict[str, Any] = {"device": device, "dtype": module.weight.dtype}
    parts = layout(module, form)
    made: OrderedDict[str, nn.Module] = OrderedDict((p.name, p.build(**where)) for p in parts)
    if form.norm != "none":
        kind = nn.InstanceNorm2d if form.norm == "instance" else nn.BatchNorm2d
        made["norm"] = kind(parts[0].outputs, **where)
        made.move_to_end(parts[1].name)
    return nn.Sequential(made)


def whole(module: Convolution) -> Part:
    """Returns a layer as a single part."""
    bias = module.bias is not None
    return _spatial(module, "", module.in_channels, module.out_channels, bias=bias)


def _macs(parts: list[Part], shape: tuple[int, ...]) -> Macs:
    total = [0, 0, 0]
    for part in parts:
        out = part.out(shape)
        one = conv(shape, part.weight, out, transposed=part.transposed)
        total = [total[0] + one.exact, total[1] + one.output, total[2] + one.output_norm]
        shape = out
    return Macs(*total)


def ranks_of(module: Convolution, form: Form) -> tuple[int, ...]:
    """Returns the rank of a form, or the two of a Tucker form."""
    full = full_ranks(module, form.kind)
    if form.rank is None and form.kind != "depthwise_separable":
        return _affordable(module, form, full)
    rank = 1 if form.rank is None else form.rank
    if isinstance(rank, float):
        return tuple(max(1, int(rank * f + 0.5)) for f in full)
    return tuple(min(rank, f) for f in full)


def _affordable(module: Convolution, form: Form, full: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the largest rank at which a form costs half of a layer, at least 1; by bisection."""
    shape = (1, module.in_channels, _HALF_OF, _HALF_OF)
    dense = _macs([whole(module)], shape).exact

    def ranks(share: int) -> tuple[int, ...]:  # of the largest, the others in proportion
        return tuple(max(1, f * share // max(full)) for f in full)

    low, high = 1, max(full)
    while low < high:
        middle = (low + high + 1) // 2
        cost = _macs(_LAYOUTS[form.kind](module, *ranks(middle)), shape).exact
        low, high = (middle, high) if 2 * cost <= dense else (low, middle - 1)
    return ranks(low)


def _spatial(
    module: Convolution, name: str, inputs: int, outputs: int, groups: int = 0, bias: bool = False
) -> Part:
    """Builds the part that takes over everything spatial from the layer."""
    padding = module.padding
    return Part(
        name,
        module.transposed,
        inputs,
        outputs,
        groups or module.groups,
        bias,
        _pair(module.kernel_size),
        _pair(module.stride),
        padding if isinstance(padding, str) else _pair(padding),
        _pair(module.output_padding),
        _pair(module.dilation),
        module.padding_mode,
    )


def _along(dim: int, module: Convolution, name: str, inputs: int, outputs: int, bias: bool) -> Part:
    """Builds the part that takes over what is spatial in one direction."""
    full = _spatial(module, name, inputs, outputs)
    padding = full.padding

    def only(pair: Pair, rest: int) -> Pair:
        return (pair[0], rest) if dim == 0 else (rest, pair[1])

    return Part(
        name,
        full.transposed,
        inputs,
        outputs,
        full.groups,
        bias,
        only(full.kernel, 1),
        only(full.stride, 1),
        padding if isinstance(padding, str) else only(padding, 0),
        only(full.output_padding, 0),
        only(full.dilation, 1),
        full.mode,
    )


def _point(module: Convolution, name: str, inputs: int, outputs: int, bias: bool = False) -> Part:
    return Part(name, False, inputs, outputs, module.groups, bias)


def _depthwise_separable(module: Convolution, rank: int) -> list[Part]:
    inputs, outputs, bias = module.in_channels, module.out_channels, module.bias is not None
    return [
        _spatial(module, "depthwise", inputs, inputs * rank, inputs, bias),
        _point(module, "pointwise", inputs * rank, outputs, bias),
    ]


def _by_direction(module: Convolution, rank: int) -> list[Part]:
    between, bias = rank * module.groups, module.bias is not None
    return [
        _along(0, module, "vertical", module.in_channels, between, False),
        _along(1, module, "horizontal", between, module.out_channels, bias),
    ]


def _tucker(module: Convolution, before: int, after: int) -> list[Part]:
    first, second = before * module.groups, after * module.groups
    return [
        _point(module, "reduce", module.in_channels, first),
        _spatial(module, "core", first, second),
        _point(module, "expand", second, module.out_channels, module.bias is not None),
    ]


def _low_rank(module: Convolution, rank: int) -> list[Part]:
    between = rank * module.groups
    return [
        _spatial(module, "basis", module.in_channels, between),
        _point(module, "mix", between, module.out_channels, module.bias is not None),
    ]


def _pair(value: tuple[int, ...]) -> Pair:
    return value[0], value[1]


_LAYOUTS: dict[str, Callable[..., list[Part]]] = {
    "depthwise_separable": _depthwise_separable,
    "spatial": _by_direction,
    "tucker": _tucker,
    "low_rank": _low_rank,
}
