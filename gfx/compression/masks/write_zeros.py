"""Writes zeros into the layers around a value, so that it needs no mask to be zero."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from gfx.compression.masks.plain_layers import PlainLayers
from gfx.compression.masks.strip_masks import Zeroed, multiplied
from gfx.compression.masks.writers import LAYERS
from gfx.coupling.labels import Mask
from gfx.ir.program import Program

__all__ = ["Written", "write_zeros"]

_ACROSS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)  # statistics cross channels


@dataclass(frozen=True)
class Written:
    """Where the zeros of some masks went."""

    where: str  # a module path, or the name of a node
    what: str
    count: int  # positions
    masks: tuple[str, ...]
    product: bool = False  # whether nodes were inserted


def write_zeros(program: Program, left: Sequence[Zeroed]) -> list[Written]:
    """Makes values zero that no mask zeroes any more; what the program computes stays exact.

    1. Where all that reads a value reads the same zeros, the layer that makes it gets them: its
       filters and biases, and the scales and shifts of the norm after it.
    2. Else the layer that reads the value gets them, in the weights that it reads it with.
    3. Where neither is a plain layer that is called once, a product with a constant does it.

    Shapes: every activation keeps its own.
    """
    every: dict[tuple[fx.Node, int], list[Zeroed]] = {}
    for z in left:
        every.setdefault((z.source, z.dim), []).append(z)
    layers = PlainLayers(program, {at: _common(at[0], reads) for at, reads in every.items()})
    written: list[Written] = []
    for (source, dim), reads in every.items():
        common = layers.common[source, dim]
        where = _at_source(layers, source, dim, common) if common.any() else None
        if where is not None:  # rule 1
            masks = tuple(dict.fromkeys(mask for z in reads for mask in z.masks))
            written.append(Written(where, "filters that are zero", int(common.sum()), masks))
            reads = [replace(z, zeros=z.zeros & ~common) for z in reads]
        written += [_at_user(layers, z) for z in reads if z.zeros.any()]
    return list(dict.fromkeys(written))  # a layer that is called twice is written once


def _common(source: fx.Node, reads: Sequence[Zeroed]) -> Mask:
    """Finds the positions that all that reads a value reads as zero."""
    zeros: Mask = np.logical_and.reduce([z.zeros for z in reads])
    return zeros if {z.user for z in reads} == set(source.users) else np.zeros_like(zeros)


@torch.no_grad()
def _at_source(layers: PlainLayers, source: fx.Node, dim: int, zeros: Mask) -> str | None:
    """Lets the layer that makes a value make zeros, and tells its path (rule 1)."""
    index = torch.from_numpy(zeros.nonzero()[0])
    norm = layers.plain(source, (_NormBase, *_ACROSS))
    if norm is None:
        layer = layers.plain(source, LAYERS)
        if layer is None or dim != _channels(layer, source):
            return None
        _zero(layer, index, outputs=True)
        return str(source.target)
    if isinstance(norm, _ACROSS):
        done = norm.weight is not None and norm.weight.ndim == 1 and dim == _channels(norm, source)
        return _silence(norm, index, source) if done else None
    before = source.all_input_nodes[0]
    layer = layers.plain(before, LAYERS) if len(before.users) == 1 else None
    if dim != 1 or (norm.weight is None and layer is None):
        return None
    where = _silence(norm, index, source)
    if layer is None or _channels(layer, before) != 1:
        return where if norm.weight is not None else None
    _zero(layer, index, outputs=True)
    return str(before.target)


def _silence(norm: Any, index: Tensor, source: fx.Node) -> str:
    """Zeroes what a norm adds and multiplies by, and the mean that it subtracts."""
    for name in ("weight", "bias", "running_mean"):
        vector = getattr(norm, name, None)
        if vector is not None:
            vector[index.to(vector.device)] = 0
    return str(source.target)


@torch.no_grad()
def _at_user(layers: PlainLayers, z: Zeroed) -> Written:
    """Lets what reads a value read zeros (rules 2 and 3)."""
    count = int(z.zeros.sum())
    layer = layers.plain(z.user, LAYERS, once=True)
    read = layers.read.get((z.user, z.source), z.source)  # it may be masked along two dimensions
    alone = z.user.all_input_nodes == [read]
    if layer is not None and alone and z.dim == _channels(layer, z.source):
        _zero(layer, torch.from_numpy(z.zeros.nonzero()[0]), outputs=False)
        return Written(str(z.user.target), "inputs read with weights that are zero", count, z.masks)
    product = multiplied(layers.program, read, z.dim, z.zeros)
    z.user.replace_input_with(read, product)
    layers.read[z.user, z.source] = product
    return Written(product.name, "channels multiplied by a constant zero", count, z.masks, True)


def _channels(layer: Any, node: fx.Node) -> int:
    """Returns the dimension in which a layer has the channels of what it reads or makes."""
    ndim = int(node.meta["val"].ndim)
    if isinstance(layer, _ConvNd):
        return ndim - len(layer.kernel_size) - 1
    return 1 if isinstance(layer, nn.GroupNorm) else ndim - 1


def _zero(layer: Any, index: Tensor, *, outputs: bool) -> None:
    """Zeroes the weights that make some outputs, and their biases; or those that read inputs.

    Shapes: a convolution's weight is (out, in / groups, ...), a transposed one's (in, out / groups,
    ...); the first of the two runs over all groups.
    """
    weight = layer.weight
    rows, columns = weight.shape[:2]
    if outputs != getattr(layer, "transposed", False):
        here = torch.zeros(rows, columns, dtype=torch.bool)
        here[index] = True
    else:
        groups = getattr(layer, "groups", 1)
        parts = torch.zeros(groups, rows // groups, columns, dtype=torch.bool)
        parts[index // columns, :, index % columns] = True
        here = parts.view(rows, columns)
    weight[here.to(weight.device)] = 0
    if outputs and layer.bias is not None:
        layer.bias[index.to(weight.device)] = 0
