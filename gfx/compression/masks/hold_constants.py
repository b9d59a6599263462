"""Lets layers hold the constants that they read, so that the channels which bring them may go.

Before   y = W x + b            x[3] = 0.5, whatever the inputs are
After    y = W' x + b'          W'[:, 3] = 0,  b' = b + 0.5 W[:, 3]
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from gfx.compression.masks.constant_reads import ConstantRead, Needless, image_constants
from gfx.compression.masks.known_rules import linear_map
from gfx.compression.selection import record
from gfx.coupling import Groups
from gfx.coupling.channel_names import stays
from gfx.coupling.labels import Mask
from gfx.coupling.removal import remove
from gfx.ir.program import Program

__all__ = ["hold_constants", "take_out"]


@torch.no_grad()
def hold_constants(reads: Sequence[ConstantRead], found: Needless) -> dict[str, tuple[int, bool]]:
    """Writes what goes into the layers that read it: into biases, or weights of what stays.

    Returns: by path, how many constants a layer holds now, and whether it got a bias for them.
    """
    held: dict[str, tuple[int, bool]] = {}
    for place, r, p in image_constants(reads, found.removed):
        q = found.keepers[place]
        _column(r.layer, q).add_(_column(r.layer, p), alpha=float(r.numbers[p] / r.numbers[q]))
        _column(r.layer, p).zero_()
        _count(held, r, 1, new=False)
    for r in reads:
        if r.layer is None or r.pads:
            continue
        gone = np.flatnonzero(r.held & found.removed[r.roots])
        if len(gone):
            new = _into_bias(r.layer, gone, r.numbers[gone])
            _count(held, r, len(gone), new=new)
    return held


def _count(held: dict[str, tuple[int, bool]], r: ConstantRead, count: int, *, new: bool) -> None:
    path = str(r.read.node.target)
    before, made = held.get(path, (0, False))
    held[path] = before + count, made or new


def _into_bias(layer: Any, positions: Any, numbers: Any) -> bool:
    """Adds what some inputs give to a layer's bias; returns whether it had none."""
    weight = linear_map(layer)[:, torch.from_numpy(positions).to(layer.weight.device)].double()
    weight = weight.flatten(2).sum(2) if weight.ndim > 2 else weight
    added = (weight @ torch.from_numpy(numbers).to(weight)).to(layer.weight.dtype)
    new = layer.bias is None
    if new:
        layer.bias = nn.Parameter(added, requires_grad=layer.weight.requires_grad)
    else:
        layer.bias.add_(added)
    return new


def _column(layer: Any, position: int) -> Tensor:
    """Returns the weights that read one input, a view into the layer's weight."""
    weight: Tensor = layer.weight
    if isinstance(layer, _ConvTransposeNd):
        return weight[position]
    if not isinstance(layer, _ConvNd):
        return weight[:, position]
    columns, rows = weight.shape[1], weight.shape[0] // layer.groups
    block = position // columns
    return weight[block * rows : (block + 1) * rows, position % columns]


def take_out(
    program: Program, groups: Groups, removed: Mask
) -> tuple[dict[str, tuple[int, int]], dict[str, Any]]:
    """Removes channels, and tells how many each module had and has, and what reports keep of it."""
    stay = stays(groups, removed)
    kept = {name: indices for name, (_, indices) in stay.items()}
    details = record(groups, removed, kept)
    stored = remove(program, groups, removed)
    if stored:  # statistics of weights, such as a spectral norm that the model computes
        details["stored"] = list(stored)
    return {name: (before, len(indices)) for name, (before, indices) in stay.items()}, details
