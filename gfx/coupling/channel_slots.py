"""Finds whether the channels of a group may change places with each other.

Each channel of a group takes as many positions of the same dimensions as any other: its slots, in
the order of the positions. Channels may change places if their slots mean the same. They do where
all that the graph joins, it joins slot by slot, in each channel alike: `x + y` does, and so does
`x + x.flip(1)`; `x + x[:, [1, 2, 0, 4, 5, 3]]` has two channels whose positions are no pair.
"""

import numpy as np

from gfx.coupling.channel_owners import ChannelOwners
from gfx.coupling.groups import Groups, Member
from gfx.coupling.labels import Ids
from gfx.ir.drawn_numbers import draws

__all__ = ["movable", "numbered", "slots"]


def movable(groups: Groups) -> dict[str, str]:
    """Says of each free group, by name, why its channels must stay in their order; "" if not so.

    Args:
        groups: found with `unions`.

    Example:
        >>> import gfx
        >>> from gfx.coupling import analyse
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> movable(analyse(program, unions=True))["project.conv"]
        ''
    """
    owners = ChannelOwners(groups, groups.free)
    found = dict.fromkeys((group.name for group in groups.free), "")
    for kinds, why in (
        (_crossed(groups, owners), "positions of its channels meet in another order"),
        (_drawn(groups, owners), "numbers are drawn at random for each of its channels"),
        (
            owners.of_statistics(groups.constants.weight_statistics),
            "a statistic of its weights may depend on their order",
        ),
    ):
        found |= {groups.free[i].name: why for i in kinds}
    return found


def numbered(groups: Groups) -> Ids:
    """Numbers the slots: labels that take the same place on an axis have the same number."""
    roots = groups.roots
    starts = np.array([axis.start for axis in groups.every_axis], dtype=np.int64)
    labels = np.arange(len(roots), dtype=np.int64)
    axis = np.searchsorted(starts, labels, "right") - 1
    # the place of a label among those of its channel on its axis
    order = np.lexsort((labels, roots, axis))
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (np.diff(axis[order]) != 0) | (np.diff(roots[order]) != 0)
    begins = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - begins
    return np.asarray(starts[axis] + place)  # a channel has no more places than its axis has labels


def _crossed(groups: Groups, owners: ChannelOwners) -> frozenset[int]:
    """Lists the groups that a union joins in one channel otherwise than in another."""
    found: set[int] = set()
    slot = numbered(groups)
    for a, b in groups.unions:
        mine = (owners.group[a] >= 0) & (a != b)
        if not mine.any():
            continue
        a, b = a[mine], b[mine]
        pairs = np.stack([owners.group[a], slot[a], slot[b], owners.channel[a]], axis=1)
        kinds, counts = np.unique(np.unique(pairs, axis=0)[:, :3], axis=0, return_counts=True)
        found.update(kinds[counts != owners.sizes[kinds[:, 0]], 0].tolist())
    return frozenset(found)


def _drawn(groups: Groups, owners: ChannelOwners) -> frozenset[int]:
    """Lists the groups for whose channels the graph draws numbers."""
    return frozenset().union(*(owners.of_node(n) for n in groups.program.nodes() if draws(n)))


def slots(member: Member, size: int) -> Ids:
    """Returns the positions of each of `size` channels on a dimension: a row each, in order.

    Example:
        >>> slots(Member("weight", 0, np.array([0, 1, 2, 3]), np.array([0, 1, 0, 1])), 2).tolist()
        [[0, 2], [1, 3]]
    """
    order = np.lexsort((member.index, member.channel))
    return np.asarray(member.index[order].reshape(size, -1))
