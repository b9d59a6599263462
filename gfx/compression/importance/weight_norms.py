"""Scores channels by their weights alone: norms, lamp, fpgm."""

import numpy as np
import torch
from torch import Tensor

from gfx.compression.importance.aggregate import (
    Reduce,
    Scores,
    Squashed,
    combined,
    finite,
    levelled,
    per_channel,
    weights_of,
)
from gfx.coupling import Group, Groups, Member

__all__ = ["fpgm", "lamp", "magnitude"]

_ROWS = 1024  # filters whose distances to all others are held at a time


def magnitude(groups: Groups, group: Group, reduce: Reduce, squashed: Squashed) -> Scores:
    """Scores channels by the norms of their slices: Σ|w| (power 1) or √Σw² (power 2)."""
    rows = []
    for member, value in weights_of(groups, group):
        source = groups.program.tensor(member.tensor)
        sums = per_channel(member, squashed(value, source, member.dim), group.size)
        norms = sums if squashed.power == 1 else np.sqrt(sums)
        rows.append(levelled(finite(norms, member.tensor)))
    return combined(rows, group.size, reduce)


def lamp(groups: Groups, group: Group, reduce: Reduce, squashed: Squashed) -> Scores:
    """Divides the squared norm of a channel by the sum of all those that are not smaller.

    The norms are those of the whole group, so that the scores of a group lie in (0, 1].
    """
    rows = []
    for member, value in weights_of(groups, group):
        source = groups.program.tensor(member.tensor)
        squares = per_channel(member, squashed(value, source, member.dim), group.size)
        rows.append(levelled(finite(squares, member.tensor)))
    squares = combined(rows, group.size, reduce)
    rising = np.sort(squares)
    not_smaller = np.cumsum(rising[::-1])[::-1]  # at k: the sum from k on
    first = np.searchsorted(rising, squares)  # the first of its equals: they all count
    return np.divide(squares, not_smaller[first], out=np.zeros(group.size), where=squares > 0)


def fpgm(groups: Groups, group: Group, reduce: Reduce) -> Scores:
    """Sums the distances from a channel's weights to those of every other channel of the group."""
    rows: list[Scores] = []
    for member, value in weights_of(groups, group):
        vectors = _vectors(member, value, group.size)
        finite(vectors.sum(1).numpy(), member.tensor)
        blocks = [vectors[start : start + _ROWS] for start in range(0, group.size, _ROWS)]
        sums = [torch.cdist(block, vectors).sum(1) for block in blocks]
        rows.append(levelled(torch.cat(sums).numpy()))
    return combined(rows, group.size, reduce)


def _vectors(member: Member, value: Tensor, size: int) -> Tensor:
    """Lays out the slices of each channel as one row, on the CPU in float64."""
    order = np.argsort(member.channel, kind="stable")
    channel = member.channel[order]
    place = np.arange(len(order)) - np.searchsorted(channel, channel)  # among a channel's own
    slices = value.movedim(member.dim, 0)[torch.from_numpy(member.index[order]).to(value.device)]
    slices = slices.flatten(1) if slices.ndim > 1 else slices[:, None]
    vectors = torch.zeros(size, int(place.max()) + 1, slices.shape[1], dtype=torch.float64)
    vectors[torch.from_numpy(channel), torch.from_numpy(place)] = slices.cpu().double()
    return vectors.flatten(1)
