"""Lists the weights of a group, and reduces their scores to one per channel."""

from collections.abc import Iterator, Sequence
from functools import reduce as fold
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gfx.coupling import Group, Groups, Member
from gfx.errors import InputError
from gfx.ir.modules import LearnedMask, MaskedLayer

__all__ = [
    "Reduce",
    "Scores",
    "Squashed",
    "combined",
    "finite",
    "levelled",
    "per_channel",
    "weights_of",
]

_BLOCK = 1 << 16  # elements per block: they stay in a cache

Reduce = Literal["mean", "sum", "max", "first"]
Scores = NDArray[np.float64]


def weights_of(groups: Groups, group: Group) -> Iterator[tuple[Member, Tensor]]:
    """Iterates over the weights that write or read a group's channels, in graph order.

    These are the convolutions, linears and embeddings; in a group without any, all its parameters.
    Weights on the meta device have no values and are left out.
    """
    modules = groups.program.module.modules()
    learned = {id(m.m) for m in modules if isinstance(m, LearnedMask)}  # not weights
    members = [m for m in group.members if groups.role(m.tensor, m.dim)]
    for member in members or group.members:
        value = groups.program.tensor(member.tensor)
        if id(value) in learned:
            continue
        if isinstance(value, nn.Parameter) and value.is_floating_point() and not value.is_meta:
            yield member, _used(groups, member.tensor, value.detach())


def _used(groups: Groups, path: str, value: Tensor) -> Tensor:
    """Returns the weight that a layer applies: a masked layer multiplies it by its mask."""
    owner, _, name = path.rpartition(".")
    module = groups.program.module.get_submodule(owner)
    if isinstance(module, MaskedLayer) and name == "weight":
        return module.masked_weight.detach()
    return value


def per_channel(member: Member, positions: Scores, size: int) -> Scores:
    """Sums the scores of a dimension's indices by channel: a channel may own several."""
    if not len(member.channel):
        return np.zeros(size)
    total = np.bincount(member.channel, weights=positions[member.index], minlength=size)
    return np.asarray(total, dtype=np.float64)


class Squashed:
    """Sums |w| (power 1) or w² (power 2) over every dimension of a weight but one.

    A weight is read once for both of its channel dimensions, block by block: no copy is made.
    """

    def __init__(self, power: int) -> None:
        self.power = power
        self._known: dict[tuple[int, int], tuple[Tensor, Scores]] = {}  # by identity and dimension

    def __call__(self, value: Tensor, source: Tensor, dim: int) -> Scores:
        """Returns one sum per index of a dimension; `source` is the parameter itself."""
        key = (id(source), dim)
        if key not in self._known:
            plain = value.numel() and value.is_contiguous() and dim < 2
            found = self._both(value) if plain else {dim: self._one(value, dim)}
            for d, sums in found.items():
                self._known[id(source), d] = (source, sums)
        return self._known[key][1]

    def _both(self, value: Tensor) -> dict[int, Scores]:
        rows = value.reshape(value.shape[0], -1)
        step = max(1, _BLOCK // max(1, rows.shape[1]))
        first, total = [], torch.zeros(rows.shape[1], dtype=torch.float64, device=value.device)
        for i in range(0, len(rows), step):
            part = _powers(rows[i : i + step], self.power)
            first.append(part.sum(1))
            total += part.sum(0)
        found = {0: _numbers(torch.cat(first))}
        if value.ndim > 1:
            found[1] = _numbers(total.view(value.shape[1], -1).sum(1))
        return found

    def _one(self, value: Tensor, dim: int) -> Scores:
        if not value.numel():
            return np.zeros(value.shape[dim])
        return _numbers(_powers(value.movedim(dim, 0).flatten(1), self.power).sum(1))


def _numbers(sums: Tensor) -> Scores:
    return np.asarray(sums.double().cpu().numpy(), dtype=np.float64)


def _powers(rows: Tensor, power: int) -> Tensor:
    rows = rows if rows.dtype == torch.float64 else rows.float()
    return rows.abs() if power == 1 else rows.square()


def finite(score: Scores, tensor: str) -> Scores:
    """Returns the score if it is finite.

    Raises: InputError naming the tensor if a value is not finite.
    """
    if not np.isfinite(score).all():
        raise InputError(
            f"{tensor} holds values that are not finite, so its channels cannot be "
            "ranked; repair the model's weights, or use importance: random"
        )
    return score


def levelled(score: Scores) -> Scores:
    """Divides a layer's scores by their mean, so that no layer dominates."""
    return score / score.mean() if score.any() else score


def combined(rows: Sequence[Scores], size: int, reduce: Reduce) -> Scores:
    """Reduces the scores of several layers to one; a layer without scores is left out.

    Example:
        >>> combined([np.array([1.0, 3.0]), np.array([2.0, 0.0])], 2, "mean")
        array([1.5, 1.5])
        >>> combined([np.array([1.0, 3.0]), np.array([2.0, 0.0])], 2, "max")
        array([2., 3.])
    """
    rows = [row for row in rows if row.any()]
    if not rows:
        return np.zeros(size)
    if reduce == "first":
        return rows[0]
    if reduce == "max":
        return fold(np.maximum, rows)
    total = fold(np.add, rows)
    return total / len(rows) if reduce == "mean" else total
