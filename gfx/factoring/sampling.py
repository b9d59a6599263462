"""Patches of a layer's inputs at positions drawn by seed, with what the layer shall give there.

A transposed convolution is read as the convolution that it equals: of its input with zeros between
the pixels, by the kernel turned around. So its patches are those of the zero-stuffed input.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gfx.factoring.forms import Layer
from gfx.factoring.layout import whole

__all__ = ["Place", "Sampling", "fit_share", "output_size", "patches_at", "sampling"]

_MOST = 2**14  # positions
_ELEMENTS = 2**24  # of all patches together, which bounds the memory: 128 MiB
_EVERY = 4  # one example in so many is held out


@dataclass(frozen=True)
class Place:
    """The positions drawn in one batch: which example, row and column of the output."""

    example: Tensor
    row: Tensor
    column: Tensor

    def of(self, output: Tensor) -> Tensor:
        """Returns the values of an output map at the positions, (positions, channels), float64."""
        return output.detach()[self.example, :, self.row, self.column].double()


@dataclass(frozen=True)
class Sampling:
    """Where to look in each batch: to fit, and to judge (held out)."""

    fit: Sequence[Place]
    held: Sequence[Place]
    positions: int  # that there are for the fit, drawn or not
    examples: int  # all of them


def sampling(layer: Layer, shapes: Sequence[torch.Size], seed: int, needed: int) -> Sampling:
    """Draws positions in batches of input shapes (N, C, H, W), every fourth example held out.

    Of a single example, the lowest quarter of the output is held out. There are twice as many as
    are needed, if the data have them.
    """
    count = sum(s[0] for s in shapes)
    width = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]
    most = max(min(_MOST, _ELEMENTS // width), 2 * needed)
    each = -(-most // max(fit_share(count, 1), 1))
    generator = torch.Generator().manual_seed(seed)
    fit, held, positions, number = [], [], 0, 0
    for shape in shapes:
        height, wide = output_size(layer, shape)
        draws: tuple[list[Tensor], list[Tensor]] = ([], [])
        for example in range(shape[0]):
            for kind, first, last in _kinds(number + example, count, height):
                room = (last - first) * wide
                picked = torch.randperm(room, generator=generator)[:each] + first * wide
                draws[kind].append(torch.stack([torch.full_like(picked, example), picked]))
                positions += room * (kind == 0)
        number += shape[0]
        fit.append(_place(draws[0], wide))
        held.append(_place(draws[1], wide))
    return Sampling(fit, held, positions, number)


def fit_share(count: int, height: int) -> int:
    """Returns how many rows of so many examples of a height the fit sees."""
    kinds = [kind for n in range(count) for kind in _kinds(n, count, height)]
    return sum(last - first for kind, first, last in kinds if kind == 0)


def _kinds(number: int, count: int, height: int) -> list[tuple[int, int, int]]:
    """Tells which rows of an example are for the fit (0) and which are held out (1)."""
    if count == 1:
        cut = height - height // _EVERY
        return [(0, 0, cut), (1, cut, height)]
    last_of_few = count < _EVERY and number == count - 1
    return [(int(last_of_few or number % _EVERY == _EVERY - 1), 0, height)]


def _place(draws: list[Tensor], wide: int) -> Place:
    example, flat = torch.cat(draws, 1) if draws else torch.zeros(2, 0).long()
    return Place(example, flat // wide, flat % wide)


def output_size(layer: Layer, shape: Sequence[int]) -> tuple[int, int]:
    """Returns height and width of a layer's output."""
    _, _, height, width = whole(layer).out(tuple(shape))
    return height, width


def patches_at(layer: Layer, x: Tensor, place: Place) -> Tensor:
    """Returns what the kernel lies on at some positions, (positions, channels, area), float64."""
    image, stride = image_of(layer, x.detach())
    turned = (-1, -2) if layer.transposed else ()
    reads = []
    for dim, where in enumerate((place.row, place.column)):
        taps = torch.arange(layer.kernel_size[dim]) * layer.dilation[dim]
        reads.append(where[:, None] * stride[dim] + taps)
    rows, columns = reads[0][:, :, None], reads[1][:, None, :]
    found = image[place.example[:, None, None], :, rows, columns]
    return found.flip([d - 1 for d in turned]).permute(0, 3, 1, 2).flatten(2).double()


def image_of(layer: Layer, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Returns the padded (and zero-stuffed) image that the kernel slides over, and its stride."""
    if layer.transposed:
        return _stuffed(layer, x), (1, 1)
    pads = layer._reversed_padding_repeated_twice
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(x, list(pads), mode=mode), layer.stride


def _stuffed(layer: Layer, x: Tensor) -> Tensor:
    """Puts stride - 1 zeros between pixels and pads as the transposed convolution means it."""
    assert not isinstance(layer.padding, str)
    size = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], layer.stride, strict=True)]
    wide = x.new_zeros(*x.shape[:2], *size)
    wide[:, :, :: layer.stride[0], :: layer.stride[1]] = x
    pads: list[int] = []
    for dim in (1, 0):  # F.pad begins with the last dimension
        before = layer.dilation[dim] * (layer.kernel_size[dim] - 1) - layer.padding[dim]
        pads += [before, before + layer.output_padding[dim]]
    return F.pad(wide, pads)  # a negative one cuts off
