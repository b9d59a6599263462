"""Defines the forms of a factorized convolution, their ranks, and which layers fit them.

kind                  parts                                          rank
depthwise_separable   depthwise k x k, [norm], pointwise 1x1         filters per input channel
spatial               vertical k x 1, horizontal 1 x k               channels between the two
tucker                reduce 1x1, core k x k, expand 1x1             channels before and after core
low_rank              basis k x k, mix 1x1                           channels between the two

In a grouped convolution, ranks but that of depthwise_separable are per group.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch
from torch import nn

from gfx.errors import RecipeError
from gfx.ir.computed_tensors import folding

__all__ = [
    "Convolution",
    "Form",
    "Init",
    "Kind",
    "Norm",
    "full_rank",
    "full_ranks",
    "like",
    "refusal",
    "sizes",
]

Convolution = nn.Conv2d | nn.ConvTranspose2d
Kind = Literal["depthwise_separable", "spatial", "tucker", "low_rank"]
Norm = Literal["none", "instance", "batch"]
Init = Literal["svd", "data", "random"]

# of a convolution, beside its channels
_SETTINGS = (
    *("kernel_size", "stride", "padding", "dilation", "transposed", "output_padding"),
    *("padding_mode", "_reversed_padding_repeated_twice"),
)
_CHOICES: dict[str, tuple[str, ...]] = {
    "kind": ("depthwise_separable", "spatial", "tucker", "low_rank"),
    "norm": ("none", "instance", "batch"),
    "init": ("svd", "data", "random"),
}


@dataclass(frozen=True)
class Form:
    """Says how a convolution is factorized.

    Raises: RecipeError if a field is out of its range.

    Example:
        >>> Form(rank=2).kind
        'depthwise_separable'
    """

    kind: Kind = "depthwise_separable"
    # int: as it is, at most the full rank; float: share of the full rank, 0 < rank ≤ 1;
    # None: 1 for depthwise_separable, else the largest that costs at most half the MACs
    rank: int | float | None = None
    norm: Norm = "none"  # between depthwise and pointwise
    init: Init = "svd"  # of the weights: from the layer's own, from data too, or by chance

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise RecipeError(
                    f"{name} is {getattr(self, name)!r}; give one of {', '.join(choices)}"
                )
        if self.norm != "none" and self.kind != "depthwise_separable":
            raise RecipeError(
                f"norm={self.norm} goes between a depthwise and a pointwise convolution, and "
                f"kind={self.kind} has none; leave norm out or use kind=depthwise_separable"
            )
        _check_rank(self.rank)


def _check_rank(rank: object) -> None:
    if rank is None:
        return
    whole = isinstance(rank, int) and not isinstance(rank, bool) and rank >= 1
    if not whole and not (isinstance(rank, float) and 0 < rank <= 1):
        raise RecipeError(
            f"rank={rank!r} must be an integer of at least 1, or a share of the full rank, "
            "0 < rank <= 1, written with a point"
        )


def full_rank(module: Convolution, kind: Kind = "depthwise_separable") -> int:
    """Returns the smallest rank at which a form equals the layer to float error.

    Example:
        >>> full_rank(nn.Conv2d(8, 16, 3)), full_rank(nn.Conv2d(8, 16, 3), "low_rank")
        (9, 16)
    """
    return max(full_ranks(module, kind))


def full_ranks(module: Convolution, kind: Kind) -> tuple[int, ...]:
    """Returns the full rank, or the two of a Tucker form: before the core, and after it."""
    inputs, outputs, (height, width) = sizes(module)
    area = height * width
    if kind == "depthwise_separable":
        return (min(area, outputs),)
    if kind == "spatial":
        return (min(inputs * height, outputs * width),)
    if kind == "low_rank":
        return (min(outputs, inputs * area),)
    return min(inputs, outputs * area), min(outputs, inputs * area)


def sizes(module: Convolution) -> tuple[int, int, tuple[int, int]]:
    """Returns input and output channels of one group, and the kernel's height and width."""
    height, width = module.kernel_size
    inputs, outputs = (c // module.groups for c in (module.in_channels, module.out_channels))
    return inputs, outputs, (height, width)


def refusal(module: nn.Module, form: Form) -> str:
    """Says why a layer cannot be written in a form; "" if it can.

    Example:
        >>> refusal(nn.Conv2d(8, 16, 1), Form())
        'a 1x1 kernel has nothing to separate'
    """
    return _of_class(module) or _of_state(module) or _of_shape(module, form)


def _of_class(module: nn.Module) -> str:
    kind = type(module).__name__
    if isinstance(module, nn.modules.lazy.LazyModuleMixin):
        return f"{kind} has no weight before its first call"
    if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        return f"{kind} is no Conv2d or ConvTranspose2d"
    base = nn.Conv2d if isinstance(module, nn.Conv2d) else nn.ConvTranspose2d
    own = [n for n in ("forward", "_conv_forward", "__call__") if _differs(module, base, n)]
    if "parametrizations" in module._modules or "weight" not in module._parameters:
        return f"its weight is computed by a parametrization; {folding(module)}"
    if own:
        return f"{kind} has a forward of its own: what it computes is not known"
    return ""


def _differs(module: nn.Module, base: type[nn.Module], name: str) -> bool:
    """Whether a class, or the module itself, replaces a method of torch's layer."""
    return name in vars(module) or getattr(type(module), name, None) is not getattr(
        base, name, None
    )


def _of_state(module: nn.Module) -> str:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if any(getattr(module, name, None) for name in hooks):
        return "it has hooks, which may do anything to what it computes"
    weight = module.weight
    if not getattr(weight, "is_floating_point", lambda: False)():
        return f"its weight is {getattr(weight, 'dtype', None)}, not of real floating numbers"
    if isinstance(module, nn.ConvTranspose2d) and module.padding_mode != "zeros":
        return f"a transposed convolution cannot pad by {module.padding_mode}"
    return ""


def _of_shape(module: nn.Module, form: Form) -> str:
    assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    inputs, outputs, (height, width) = sizes(module)
    kernel = f"{height}x{width}"
    if form.kind == "spatial" and 1 in (height, width):
        return f"a {kernel} kernel has nothing to separate"
    if form.kind in ("depthwise_separable", "tucker") and height * width == 1:
        return f"a {kernel} kernel has nothing to separate"
    if form.kind == "depthwise_separable" and inputs == 1 and module.groups > 1:
        return f"it is depthwise already: {module.groups} groups of one input channel"
    if form.kind in ("tucker", "low_rank") and prod(full_ranks(module, form.kind)) == 1:
        return f"its groups are of {inputs} to {outputs} channels: no rank is below the full one"
    return ""


def like(old: Any, inputs: int, outputs: int, groups: int) -> Any:
    """Makes a convolution of the same kind with other channels, without values.

    It is priced, not run, and thousands are made; torch's constructor would draw weights for each.
    """
    kind = nn.ConvTranspose2d if old.transposed else nn.Conv2d
    made: Any = kind.__new__(kind)
    nn.Module.__init__(made)
    made.__dict__.update({name: getattr(old, name) for name in _SETTINGS})
    made.in_channels, made.out_channels, made.groups = inputs, outputs, groups
    first, second = (inputs, outputs) if old.transposed else (outputs, inputs)
    meta: dict[str, Any] = {"device": "meta", "dtype": old.weight.dtype}
    made.weight = nn.Parameter(torch.empty(first, second // groups, *old.kernel_size, **meta))
    made.bias = None if old.bias is None else nn.Parameter(torch.empty(outputs, **meta))
    return made
