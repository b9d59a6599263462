"""Samples patches of a layer's inputs at seeded random positions, batch by batch.

A transposed convolution is read as the convolution that it equals: of its input with zeros between
the pixels, by the flipped kernel. So its patches are those of the zero-stuffed input.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gfx.compression.factor.forms import Convolution
from gfx.compression.factor.parts import whole

__all__ = ["Patch", "PatchSample", "output_size", "patches_at"]


@dataclass(frozen=True)
class Patch:
    """Positions in one batch: which example, row and column of the output."""

    example: Tensor
    row: Tensor
    column: Tensor

    def of(self, output: Tensor) -> Tensor:
        """Returns the values of an output map at the positions, (positions, channels), float64."""
        return output.detach()[self.example, :, self.row, self.column].double()


class PatchSample:
    """Holds the positions with the smallest random keys among all positions offered.

    So every position is equally likely, whatever their number, and at most `most` are held.
    """

    def __init__(self, most: int) -> None:
        self.most, self.seen = most, 0
        self.keys = torch.empty(0)
        self.where = torch.empty(0, 4, dtype=torch.long)  # batch, example, row, column
        self.held: list[Tensor] = []  # patches, and targets where they are given; by position

    def offer(
        self, layer: Convolution, x: Tensor, target: Tensor | None, keys: Tensor, batch: int
    ) -> None:
        """Offers the positions of a batch; those whose key is infinite do not count.

        Shapes: keys (N, H, W), of the output.
        """
        spots = torch.isfinite(keys).nonzero()
        self.seen += len(spots)
        here = torch.cat([torch.full_like(spots[:, :1], batch), spots], 1)
        every = torch.cat([self.keys, keys[tuple(spots.T)]])
        kept = every.topk(min(self.most, len(every)), largest=False).indices.sort().values
        old, new = kept[kept < len(self.keys)], kept[kept >= len(self.keys)] - len(self.keys)
        place = Patch(*spots[new].T)
        fresh = [patches_at(layer, x, place)] + ([] if target is None else [place.of(target)])
        self.held = (
            [torch.cat([a[old], b]) for a, b in zip(self.held, fresh, strict=True)]
            if self.held
            else fresh
        )
        self.where = torch.cat([self.where[old], here[new]])
        self.keys = every[kept]

    def split(self, row: int) -> "PatchSample":
        """Moves the positions from an output row onwards to another sample, and returns it."""
        other, below = PatchSample(self.most), self.where[:, 2] >= row
        for sample, mask in ((other, below), (self, ~below)):
            parts = self.keys[mask], self.where[mask], [h[mask] for h in self.held]
            if sample is other:
                other.keys, other.where, other.held = parts
        self.keys, self.where, self.held = parts
        return other

    def places(self, batch: int) -> Patch:
        """Returns the positions of one batch, in the order in which they are held."""
        return Patch(*self.where[self.where[:, 0] == batch, 1:].T)


def output_size(layer: Convolution, shape: Sequence[int]) -> tuple[int, int]:
    """Returns height and width of a layer's output."""
    _, _, height, width = whole(layer).out(tuple(shape))
    return height, width


def patches_at(layer: Convolution, x: Tensor, place: Patch) -> Tensor:
    """Returns the input values under the kernel, (positions, channels, area), float64."""
    image, stride = _image(layer, x.detach())
    reads = []
    for dim, where in enumerate((place.row, place.column)):
        taps = torch.arange(layer.kernel_size[dim]) * layer.dilation[dim]
        taps = taps.flip(0) if layer.transposed else taps  # the kernel is flipped
        reads.append(where[:, None] * stride[dim] + taps)
    rows, columns = reads[0][:, :, None], reads[1][:, None, :]
    found = image[place.example[:, None, None], :, rows, columns]
    return found.permute(0, 3, 1, 2).flatten(2).double()


def _image(layer: Convolution, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Returns the padded (and zero-stuffed) image under the kernel, and its stride."""
    if layer.transposed:
        return _stuffed(layer, x), (1, 1)
    pads = layer._reversed_padding_repeated_twice
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(x, list(pads), mode=mode), layer.stride


def _stuffed(layer: Convolution, x: Tensor) -> Tensor:
    """Puts stride - 1 zeros between pixels and pads as the transposed convolution does."""
    assert not isinstance(layer.padding, str)
    size = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], layer.stride, strict=True)]
    wide = x.new_zeros(*x.shape[:2], *size)
    wide[:, :, :: layer.stride[0], :: layer.stride[1]] = x
    pads: list[int] = []
    for dim in (1, 0):  # F.pad begins with the last dimension
        before = layer.dilation[dim] * (layer.kernel_size[dim] - 1) - layer.padding[dim]
        pads += [before, before + layer.output_padding[dim]]
    return F.pad(wide, pads)  # a negative pad crops
