"""The layers of a group, and how what they say of a channel is brought together."""

from collections.abc import Iterator, Sequence
from functools import reduce as fold
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gfx.coupling import Group, Groups, Member
from gfx.errors import InputError

__all__ = [
    "Reduce",
    "Scores",
    "combined",
    "finite",
    "levelled",
    "per_channel",
    "squashed",
    "weights_of",
]

_BLOCK = 1 << 16  # elements that are looked at together: they stay in a cache

Reduce = Literal["mean", "sum", "max", "first"]
Scores = NDArray[np.float64]


def weights_of(groups: Groups, group: Group) -> Iterator[tuple[Member, Tensor]]:
    """Iterates over the weights that write or read a group's channels, in graph order.

    These are the convolutions, linears and embeddings; in a group that has none, whatever
    parameters it has. Weights on the meta device have no values and are left out.
    """
    members = [m for m in group.members if (m.tensor, m.dim) in groups.flow.roles]
    for member in members or group.members:
        value = groups.flow.program.tensor(member.tensor)
        if isinstance(value, nn.Parameter) and value.is_floating_point() and not value.is_meta:
            yield member, value.detach()


def per_channel(member: Member, positions: Scores, size: int) -> Scores:
    """Adds up what a dimension's indices have, channel by channel: one may own several."""
    total = np.zeros(size)
    np.add.at(total, member.channel, positions[member.index])
    return total


def squashed(value: Tensor, dim: int, power: int) -> Scores:
    """Sums |w| (power 1) or w² (power 2) over every dimension but one.

    Block by block, as a large weight is read once that way and no copy of it is made.
    """
    if not value.numel():
        return np.zeros(value.shape[dim])
    if dim > 1 or not value.is_contiguous():
        value, dim = value.movedim(dim, 0), 0
    rows = value.reshape(value.shape[0], -1)
    step = max(1, _BLOCK // max(1, rows.shape[1]))
    parts = (_powers(rows[i : i + step], power) for i in range(0, len(rows), step))
    if dim == 0:
        sums = torch.cat([part.sum(1) for part in parts]).double()
    else:
        total = torch.zeros(rows.shape[1], dtype=torch.float64, device=value.device)
        for part in parts:
            total += part.sum(0)
        sums = total.view(value.shape[1], -1).sum(1)
    return np.asarray(sums.cpu().numpy(), dtype=np.float64)


def _powers(rows: Tensor, power: int) -> Tensor:
    rows = rows if rows.dtype == torch.float64 else rows.float()
    return rows.abs() if power == 1 else rows.square()


def finite(score: Scores, tensor: str) -> Scores:
    """Returns the score as it is.

    Raises: InputError naming the tensor if a value is not finite.
    """
    if not np.isfinite(score).all():
        raise InputError(
            f"{tensor} holds values that are not finite, so its channels cannot be "
            "ranked; repair the model's weights, or use importance: random"
        )
    return score


def levelled(score: Scores) -> Scores:
    """Divides a layer's scores by their mean, so that no layer drowns another."""
    return score / score.mean() if score.any() else score


def combined(rows: Sequence[Scores], size: int, reduce: Reduce) -> Scores:
    """Brings the scores of several layers together; a layer that says nothing is left out.

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
