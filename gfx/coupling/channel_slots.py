"""Finds whether the channels of a group may change places with each other.

Each channel of a group takes as many positions of the same dimensions as any other: its slots, in
the order of the positions. Channels may change places if their slots mean the same. They do where
all that the graph joins, it joins slot by slot, in each channel alike: `x + y` does, and so does
`x + x.flip(1)`; `x + x[:, [1, 2, 0, 4, 5, 3]]` has two channels whose positions are no pair.
"""

from collections.abc import Iterable

import numpy as np
from torch import fx

from gfx.coupling.groups import Groups, Member
from gfx.coupling.labelled_tensor import Labeled, core
from gfx.coupling.labels import Ids
from gfx.ir.ops import op_name

__all__ = ["movable", "slots"]

_DRAWS = frozenset(
    "rand randn rand_like randn_like randint_like bernoulli bernoulli_ normal normal_ uniform_ "
    "poisson multinomial random_ exponential_ new_rand".split()
)


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
    slots = _Slots(groups)
    found = {group.name: "" for group in groups.free}
    for i in slots.broken():
        found[groups.free[i].name] = "positions of its channels meet in another order"
    for i in slots.drawn():
        found[groups.free[i].name] = "numbers are drawn at random for each of its channels"
    for i in slots.counted():
        found[groups.free[i].name] = "a statistic of its weights may depend on their order"
    return found


class _Slots:
    """Numbers the positions of each channel."""

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        roots = groups.roots
        owner = np.full(len(roots), -1, dtype=np.int64)
        channel = np.zeros(len(roots), dtype=np.int64)
        for i, group in enumerate(groups.free):
            owner[group.roots], channel[group.roots] = i, np.arange(group.size)
        self.owner, self.channel = owner[roots], channel[roots]  # by label
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
        # of an axis, channels have fewer places than it has labels
        self.slot = starts[axis] + place

    def broken(self) -> set[int]:
        """Lists the free groups that a union joins in one channel otherwise than in another."""
        found: set[int] = set()
        sizes = np.array([group.size for group in self.groups.free], dtype=np.int64)
        for a, b in self.groups.unions:
            mine = (self.owner[a] >= 0) & (a != b)
            if not mine.any():
                continue
            a, b = a[mine], b[mine]
            pairs = np.unique(
                np.stack([self.owner[a], self.slot[a], self.slot[b], self.channel[a]], axis=1),
                axis=0,
            )
            kinds, counts = np.unique(pairs[:, :3], axis=0, return_counts=True)
            found.update(np.unique(kinds[counts != sizes[kinds[:, 0]], 0]).tolist())
        return found

    def drawn(self) -> set[int]:
        """Lists the free groups for whose channels the graph draws numbers."""
        calls = [n for n in self.groups.program.nodes() if n.op in ("call_function", "call_method")]
        return self._of(node for node in calls if op_name(node) in _DRAWS)

    def counted(self) -> set[int]:
        """Lists the free groups of tensors of which the graph takes a statistic."""
        constants = self.groups.constants
        return self._of(s for node in constants.weight_statistics for s in constants.sources(node))

    def _of(self, nodes: Iterable[fx.Node]) -> set[int]:
        found: set[int] = set()
        for node in nodes:
            value = self.groups.value_of(node)
            for labels in value.fields if isinstance(value, Labeled) else ():
                found.update(np.unique(self.owner[core(labels).numpy()]).tolist())
            if node.op == "get_attr":  # one that is read for a statistic alone has no labels there
                for axis in self.groups.axes_of(str(node.target)):
                    if axis is not None:
                        found.update(np.unique(self.owner[axis.ids]).tolist())
        return found - {-1}


def slots(member: Member, size: int) -> Ids:
    """Returns the positions of each of `size` channels on a dimension: a row each, in order.

    Example:
        >>> slots(Member("weight", 0, np.array([0, 1, 2, 3]), np.array([0, 1, 0, 1])), 2).tolist()
        [[0, 2], [1, 3]]
    """
    order = np.lexsort((member.index, member.channel))
    return np.asarray(member.index[order].reshape(size, -1))
