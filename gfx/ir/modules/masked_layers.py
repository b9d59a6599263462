"""Multiplies the weights of convolutions and linear layers by a mask, element by element."""

import copy
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfx.ir.modules.channel_masks import Scope, kept_entries
from gfx.ir.modules.sparsity_ramp import Ramp, check_choice, ramp_of

__all__ = [
    "MASKED",
    "MaskedConv1d",
    "MaskedConv2d",
    "MaskedConv3d",
    "MaskedConvTranspose1d",
    "MaskedConvTranspose2d",
    "MaskedConvTranspose3d",
    "MaskedLayer",
    "MaskedLinear",
    "Pattern",
    "masked_layer",
    "plain_layer",
]

Pattern = Literal["free", "2:4"]

_RAMP = Ramp()


class MaskedLayer(nn.Module):
    """Multiplies the weight by a mask of its shape, element by element, before it is used.

    The masked weights keep their values and get no gradient; they come back if the mask lets them.
    The pattern says where a schedule may put zeros: anywhere, or on at most two of each four
    neighbours along the dimension that is summed over.

    Shapes: `mask` is a buffer of booleans, of the weight's shape.
    """

    weight: Tensor
    mask: Tensor
    ramp: Ramp
    scope: Scope
    pattern: Pattern

    def __init__(
        self,
        *args: Any,
        ramp: Any = _RAMP,
        scope: Scope = "local",
        pattern: Pattern = "free",
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)  # of the layer, the next class
        self.prepare(ramp, scope, pattern)

    def prepare(self, ramp: Any, scope: Scope, pattern: Pattern) -> None:
        """Adds the mask, all ones, and the settings of its schedule."""
        check_choice("scope", scope, get_args(Scope))
        check_choice("pattern", pattern, get_args(Pattern))
        self.ramp = ramp_of(ramp)
        self.scope = scope
        self.pattern = pattern
        ones = torch.ones(self.weight.shape, device=self.weight.device)
        self.register_buffer("mask", ones)

    @property
    def kept(self) -> Tensor:
        """Which weights the mask leaves, booleans in the shape of the weight."""
        return kept_entries(self.mask)

    @property
    def masked_weight(self) -> Tensor:
        """The weight that is used."""
        return self.weight * self.kept


class _Conv(MaskedLayer):
    def forward(self: Any, input: Tensor) -> Tensor:  # as torch names it
        """Convolves with the masked weight."""
        result: Tensor = self._conv_forward(input, self.masked_weight, self.bias)
        return result


class MaskedConv1d(_Conv, nn.Conv1d):
    """An nn.Conv1d whose weight is masked."""


class MaskedConv2d(_Conv, nn.Conv2d):
    """An nn.Conv2d whose weight is masked.

    Example:
        >>> layer = masked_layer(nn.Conv2d(3, 8, 3))
        >>> layer.mask[0] = 0
        >>> int((layer.masked_weight == 0).sum())
        27
    """


class MaskedConv3d(_Conv, nn.Conv3d):
    """An nn.Conv3d whose weight is masked."""


class _Transposed(MaskedLayer):
    def forward(self: Any, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolves with the masked weight."""
        ndim = len(self.kernel_size)
        padding = self._output_padding(
            input, output_size, self.stride, self.padding, self.kernel_size, ndim, self.dilation
        )
        options = (self.stride, self.padding, padding, self.groups, self.dilation)
        result: Tensor = _TRANSPOSED[ndim](input, self.masked_weight, self.bias, *options)
        return result


_TRANSPOSED: Any = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class MaskedConvTranspose1d(_Transposed, nn.ConvTranspose1d):
    """An nn.ConvTranspose1d whose weight is masked."""


class MaskedConvTranspose2d(_Transposed, nn.ConvTranspose2d):
    """An nn.ConvTranspose2d whose weight is masked."""


class MaskedConvTranspose3d(_Transposed, nn.ConvTranspose3d):
    """An nn.ConvTranspose3d whose weight is masked."""


class MaskedLinear(MaskedLayer, nn.Linear):
    """An nn.Linear whose weight is masked."""

    def forward(self, input: Tensor) -> Tensor:
        """Multiplies by the masked weight."""
        return F.linear(input, self.masked_weight, self.bias)


MASKED: dict[type[nn.Module], type[MaskedLayer]] = {
    nn.Conv1d: MaskedConv1d,
    nn.Conv2d: MaskedConv2d,
    nn.Conv3d: MaskedConv3d,
    nn.ConvTranspose1d: MaskedConvTranspose1d,
    nn.ConvTranspose2d: MaskedConvTranspose2d,
    nn.ConvTranspose3d: MaskedConvTranspose3d,
    nn.Linear: MaskedLinear,
}
_PLAIN = {masked: plain for plain, masked in MASKED.items()}


def masked_layer(
    layer: nn.Module, ramp: Any = _RAMP, scope: Scope = "local", pattern: Pattern = "free"
) -> MaskedLayer:
    """Returns a layer that masks its weight, and shares all tensors with the one given.

    Raises: KeyError if it is none of those in MASKED.
    """
    twin = _twin(layer, MASKED[type(layer)])
    assert isinstance(twin, MaskedLayer)
    twin.prepare(ramp, scope, pattern)
    return twin


def plain_layer(layer: MaskedLayer) -> nn.Module:
    """Returns the torch.nn layer with the masked weight written out, under a tensor of its own."""
    twin = _twin(layer, _PLAIN[type(layer)])
    for name in ("ramp", "scope", "pattern"):
        del twin.__dict__[name]
    del twin._buffers["mask"]
    value = layer.masked_weight.detach().clone()
    twin.weight = nn.Parameter(value, requires_grad=layer.weight.requires_grad)
    return twin


def _twin(layer: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """Makes a module of another class with the same attributes and tensors."""
    twin = kind.__new__(kind)
    # dictionaries of its own: what is registered in one is not in the other
    twin.__dict__ = {k: copy.copy(v) if isinstance(v, dict) else v for k, v in vars(layer).items()}
    return twin
