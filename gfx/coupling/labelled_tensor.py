"""Represents an activation in the analysis: its shape, and the channel of each position.

A field is an integer tensor of the activation's shape that holds labels. It is expanded (stride 0)
along the dimensions that it does not vary on, so a field over 64 channels of 256x256 costs 64
numbers, and running a view, permute or slice on it costs nothing. An activation may have several
fields: a weight has one for each dimension. A position exists while all its labels are kept.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfx.coupling.labels import Ids

__all__ = [
    "Labeled",
    "channel_dims",
    "core",
    "empty_like",
    "expand_constant",
    "field",
    "rows_of",
    "spread",
    "tensors",
    "varying",
]


@dataclass(frozen=True)
class Labeled:
    """A tensor as the analysis sees it."""

    shape: tuple[int, ...]
    fields: tuple[Tensor, ...] = ()
    why: str = ""  # why the dimensions without labels cannot be narrowed, if that is known

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)


def varying(labels: Tensor) -> tuple[int, ...]:
    """Returns the dimensions that a field varies on."""
    sizes = enumerate(zip(labels.shape, labels.stride(), strict=True))
    return tuple([d for d, (n, step) in sizes if n > 1 and step])


def core(labels: Tensor) -> Tensor:
    """Cuts a field to size 1 along the dimensions it does not vary on."""
    if not labels.numel():  # a layer of width 0: the labels are there, expanded to nothing
        labels = labels.as_strided([n or 1 for n in labels.shape], labels.stride())
    for d, (size, step) in enumerate(zip(labels.shape, labels.stride(), strict=True)):
        if size > 1 and not step:
            labels = labels.narrow(d, 0, 1)
    return labels


def rows_of(labels: Tensor, dim: int) -> Ids:
    """Returns the labels of each index of a dimension as one row, of what the field varies on."""
    if varying(labels) == (dim,):
        return labels.as_strided((labels.shape[dim], 1), (labels.stride(dim), 1)).numpy()
    return core(labels).movedim(dim, 0).reshape(labels.shape[dim], -1).numpy()


def spread(labels: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Expands a core to the full shape."""
    # size-1 dimensions get stride 0 only when they grow, which is all `varying` asks
    return labels.expand(shape)


def field(ids: Ids, dim: int, shape: tuple[int, ...]) -> Tensor:
    """Makes a field of this shape that varies along one dimension."""
    view = [1] * len(shape)
    view[dim] = len(ids)
    return torch.from_numpy(np.ascontiguousarray(ids)).view(view).expand(shape)


def expand_constant(labels: Tensor) -> Tensor:
    """Expands a field (stride 0) along the dimensions on which it is constant."""
    shape = tuple(labels.shape)
    for d in varying(labels):
        first = labels.narrow(d, 0, 1)
        if bool((core(labels) == core(first)).all()):
            labels = first.expand([*labels.shape[:d], shape[d], *labels.shape[d + 1 :]])
    return labels


def tensors(value: Any) -> list[Labeled]:
    """Lists the activations inside a nested argument."""
    if isinstance(value, Labeled):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [found for item in value for found in tensors(item)]
    return []


def channel_dims(shape: tuple[int, ...]) -> list[int]:
    """Lists the dimensions of a made tensor that may be channels.

    Dimension 1 of an activation, the only one of a vector, and dimension 0 of what is laid out
    like the weight of a depthwise convolution.
    """
    if len(shape) == 1:
        return [0]
    return [0, 1] if len(shape) > 2 and shape[1] == 1 else [1]


def empty_like(value: Labeled) -> Tensor:
    """Makes a tensor that has the shape of an activation and no content."""
    return torch.empty(1, dtype=torch.int64).expand(value.shape)
