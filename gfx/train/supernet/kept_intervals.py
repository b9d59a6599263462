"""Finds which positions of a tensor a subnet uses, at any widths: intervals of each dimension."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gfx.coupling.channel_owners import ChannelOwners
from gfx.coupling.labels import Ids

__all__ = ["UNUSED", "Intervals", "TensorPart", "part_of"]

_FEW = 16  # intervals that are cut out one by one


@dataclass(frozen=True)
class _Run:
    """Positions in a row whose channels rise by one after every `each` positions."""

    start: int
    group: int  # -1: they always stay
    first: int  # channel at the start
    channels: int
    each: int

    def length(self, widths: Sequence[int]) -> int:
        """Returns how many positions stay, the first ones."""
        if self.group < 0:
            return self.channels * self.each
        return min(max(widths[self.group] - self.first, 0), self.channels) * self.each


class Intervals:
    """Lists what stays of one dimension of a tensor, by the widths of the groups.

    Args:
        owners: of the labels.
        labels: of each index of the dimension.
    """

    def __init__(self, owners: ChannelOwners, labels: Ids) -> None:
        self.size = len(labels)
        self.runs = tuple(_runs(owners.group[labels], owners.channel[labels]))

    @property
    def fixed(self) -> bool:
        """Whether all positions stay at every width."""
        return all(run.group < 0 for run in self.runs)

    def at(self, widths: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Returns (start, length) of each interval that stays; neighbours are one."""
        found: list[tuple[int, int]] = []
        for run in self.runs:
            length = run.length(widths)
            if not length:
                continue
            if found and sum(found[-1]) == run.start:
                found[-1] = (found[-1][0], found[-1][1] + length)
            else:
                found.append((run.start, length))
        return tuple(found)


def _runs(group: Ids, channel: Ids) -> list[_Run]:
    """Cuts a dimension into runs."""
    found: list[_Run] = []
    place, size = 0, len(group)
    while place < size:
        mine = int(group[place])
        here = np.flatnonzero(group[place:] != mine)
        end = place + (int(here[0]) if here.size else size - place)
        if mine < 0:
            found.append(_Run(place, -1, 0, end - place, 1))
            place = end
            continue
        while place < end:
            place = _one_run(found, mine, channel, place, end)
    return found


def _one_run(found: list[_Run], group: int, channel: Ids, start: int, end: int) -> int:
    """Adds the longest run from a position on, and returns where it ends."""
    rest = channel[start:end]
    changes = np.flatnonzero(np.diff(rest))
    each = int(changes[0]) + 1 if changes.size else len(rest)
    wanted = rest[0] + np.arange(len(rest)) // each
    wrong = np.flatnonzero(rest != wanted)
    length = int(wrong[0]) if wrong.size else len(rest)
    whole = max(length // each, 1)
    if length < each:  # the last channel of a run that is cut short: position by position
        whole, each = 1, length
    found.append(_Run(start, group, int(rest[0]), whole, each))
    return start + whole * each


@dataclass(frozen=True)
class TensorPart:
    """The part of a tensor that a subnet uses: for each dimension its intervals, () for all.

    `none`: the subnet does not use it at all.
    """

    intervals: tuple[tuple[tuple[int, int], ...], ...]
    none: bool = False

    @property
    def whole(self) -> bool:
        """Whether it is the whole tensor."""
        return not self.none and not any(self.intervals)

    @property
    def is_view(self) -> bool:
        """Whether it can be had without a copy."""
        return all(len(each) < 2 for each in self.intervals)

    def of(self, value: Tensor) -> Tensor:
        """Cuts the part out: a view where each dimension keeps one interval.

        Example:
            >>> TensorPart((((0, 2),), ())).of(torch.ones(4, 3)).shape
            torch.Size([2, 3])
        """
        if self.none:
            return value.flatten()[:0]
        for dim, intervals in enumerate(self.intervals):
            if len(intervals) == 1:
                value = value.narrow(dim, *intervals[0])
            elif 1 < len(intervals) <= _FEW:
                value = torch.cat([value.narrow(dim, *each) for each in intervals], dim)
            elif intervals:
                value = value.index_select(dim, _index(intervals).to(value.device))
        return value

    def write(self, value: Tensor, part: Tensor) -> None:
        """Writes a part back into its place, without gradients.

        Example:
            >>> value = torch.zeros(4)
            >>> TensorPart((((0, 1), (2, 1)),)).write(value, torch.tensor([1.0, 2.0]))
            >>> value
            tensor([1., 0., 2., 0.])
        """
        if self.none:
            return
        with torch.no_grad():
            if self.is_view:
                self.of(value).copy_(part)
                return
            places = []
            for dim, intervals in enumerate(self.intervals):
                index = _index(intervals) if intervals else torch.arange(value.shape[dim])
                shape = [1] * value.ndim
                shape[dim] = -1
                places.append(index.view(shape).to(value.device))
            value[tuple(places)] = part


UNUSED = TensorPart((), none=True)


def _index(intervals: Sequence[tuple[int, int]]) -> Tensor:
    return torch.cat([torch.arange(start, start + length) for start, length in intervals])


def part_of(
    shape: Sequence[int], dims: Sequence[Intervals | None], widths: Sequence[int]
) -> TensorPart:
    """Returns the part of a tensor that stays at some widths.

    Args:
        shape: of the tensor.
        dims: what stays of each dimension; None: all.
        widths: of the groups, in channels that go together.
    """
    found = []
    for size, dim in zip(shape, dims, strict=True):
        kept = () if dim is None else dim.at(widths)
        found.append(() if kept == ((0, size),) else kept)
    return TensorPart(tuple(found))
