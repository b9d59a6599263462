"""The order in memory of convolution weights: row-major, or channels-last (torch.memory_format).

A weight that was stored channels-last stays so when it is cut, folded or split: kernels choose
their way by it, and a mixed net reorders activations between layers.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["formats_of", "in_format_of", "store_in_formats"]

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of dimensions


def in_format_of(new: Tensor, old: Tensor) -> Tensor:
    """Returns a tensor in the memory format of another one; itself if it is in it.

    A tensor that has only one order (one row and column, or one channel) tells nothing.

    Example:
        >>> old = torch.zeros(8, 4, 3, 3).to(memory_format=torch.channels_last)
        >>> in_format_of(torch.zeros(2, 4, 3, 3), old).stride()
        (36, 1, 12, 4)
    """
    if new.ndim != old.ndim or not _is_last(old):
        return new
    return new.contiguous(memory_format=_LAST[new.ndim])


def formats_of(module: nn.Module) -> Mapping[int, torch.memory_format]:
    """Returns the channels-last formats that all convolutions of a module are stored in.

    Returns: by the number of dimensions of their weights; nothing for those that are row-major, or
    mixed.

    Example:
        >>> formats_of(nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last))
        {4: torch.channels_last}
    """
    found = {}
    weights = _weights(module)
    for ndim, last in _LAST.items():
        mine = [weight for weight in weights if weight.ndim == ndim]
        if any(map(_is_last, mine)) and all(w.is_contiguous(memory_format=last) for w in mine):
            found[ndim] = last
    return found


def store_in_formats(module: nn.Module, formats: Mapping[int, torch.memory_format]) -> None:
    """Stores the weights of convolutions in these formats, in place.

    Example:
        >>> layer = nn.Conv2d(3, 8, 3)
        >>> store_in_formats(layer, {4: torch.channels_last})
        >>> layer.weight.stride()
        (27, 1, 9, 3)
    """
    for weight in _weights(module) if formats else []:
        last = formats.get(weight.ndim)
        if last is not None and not weight.is_contiguous(memory_format=last):
            weight.data = weight.data.contiguous(memory_format=last)


def _weights(module: nn.Module) -> list[Tensor]:
    """Lists the weights that convolutions hold; not those that are computed when they run."""
    convolutions = (m for m in module.modules() if isinstance(m, nn.modules.conv._ConvNd))
    held = [m._parameters.get("weight") for m in convolutions]
    return [w for w in held if w is not None and not isinstance(w, nn.UninitializedParameter)]


def _is_last(weight: Tensor) -> bool:
    """Whether a tensor is channels-last, and could be otherwise."""
    last = _LAST.get(weight.ndim)
    if last is None or weight.layout != torch.strided or weight.is_contiguous():
        return False
    return weight.is_contiguous(memory_format=last)
