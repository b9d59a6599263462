"""Selects channels to remove: the least important, from groups that are ranked together."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from gfx.compression.importance import Scores
from gfx.compression.selection.bounds import Bounds, GroupBounds
from gfx.coupling import Group, Groups
from gfx.coupling.labels import Ids, Mask

__all__ = ["Scope", "Selection", "isomorphic", "pools"]

Scope = Literal["local", "global", "isomorphic", "knapsack"]


def pools(
    groups: Groups, among: Sequence[Group], scope: Scope, stages: Sequence[Hashable]
) -> list[Ids]:
    """Splits groups into pools; the channels of a pool are ranked against each other.

    - local: every group is a pool of its own.
    - isomorphic: groups of a stage that are built alike are one pool (Fang et al. 2024,
      arXiv:2407.04616: importances are comparable only between like structures).

    Returns: for each pool the numbers of its groups in `among`, in the order of their first group.
    """
    found: dict[Hashable, list[int]] = {}
    for i, (group, stage) in enumerate(zip(among, stages, strict=True)):
        like: Hashable = i if scope == "local" else None
        if scope == "isomorphic":
            like = isomorphic(groups, group)
        found.setdefault((stage, like), []).append(i)
    return [np.array(members, dtype=np.int64) for members in found.values()]


def isomorphic(groups: Groups, group: Group) -> Hashable:
    """Returns a key that is equal for groups of the same structure.

    The same structure means: as many channels, and the same set of tensors that a channel spans,
    compared by the kind of layer that owns the tensor, its name there, its shape, the dimension
    of the channels, whether the layer writes or reads them, and how many positions each channel
    takes. Names and positions of layers do not count.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("resnet_9blocks", ngf=4)))
        >>> blocks = [group for group in groups if group.name.startswith("blocks.")]
        >>> len(blocks), len({isomorphic(groups, group) for group in blocks})
        (9, 1)
    """
    program = groups.program
    members = []
    for m in group.members:
        owner, _, leaf = m.tensor.rpartition(".")
        # a tensor of the model itself is identified by its shape alone
        kind = type(program.module.get_submodule(owner)).__name__ if owner else ""
        role = groups.role(m.tensor, m.dim)
        shape = tuple(program.tensor(m.tensor).shape)
        members.append((kind, leaf if owner else "", shape, m.dim, role, len(m.index)))
    return group.size, tuple(sorted(members))


@dataclass
class Selection:
    """Chooses channels among some groups of a program, the least important of each first."""

    groups: Groups
    among: tuple[Group, ...]  # the groups that may be narrowed
    scores: Mapping[str, Scores]  # by group name
    bounds: Bounds = field(default_factory=Bounds)
    scope: Scope = "local"
    bounded: tuple[Group, ...] = ()  # groups that nothing but the bounds keeps whole

    def __post_init__(self) -> None:
        self.sizes = np.array([g.size for g in self.among], dtype=np.int64)
        self.limits: GroupBounds = self.bounds.of(self.among)
        # channels that a layer loses with each of a group (gfx/coupling/groups.py)
        self.takes = np.array([g.takes[0] for g in self.among], dtype=np.int64)

    @cached_property
    def order(self) -> dict[str, Ids]:
        """Lists the channels of each group, by its name, in the order of removal."""
        # of equal scores the last channel is removed first, as slicing does
        scores = self.scores
        return {g.name: np.lexsort((-np.arange(g.size), scores[g.name])) for g in self.among}

    def by_ratio(self, shares: Sequence[tuple[Hashable, float]]) -> Mask:
        """Removes a share of every pool of groups, in channels of the layers.

        Args:
            shares: of each group the stage it belongs to, and the ratio to remove there. Groups
                of different stages are never ranked together.
        """
        gone = np.zeros(len(self.among), dtype=np.int64)
        for pool in self._pools([stage for stage, _ in shares]):
            total = int((self.sizes * self.takes)[pool].sum())
            sequence = self._sequence(pool, self.bounds)
            lost = np.cumsum(self.takes[sequence])
            count = int(np.searchsorted(lost, total * shares[pool[0]][1] + 1e-9, "right"))
            gone += np.bincount(sequence[:count], minlength=len(gone))
        return self.by_counts(self.sizes - gone)

    def by_counts(self, kept: Ids) -> Mask:
        """Removes the least important channels of each group down to the numbers kept."""
        removed = self.groups.none_removed()
        for group, count in zip(self.among, self.limits.rounded(kept), strict=True):
            removed[group.roots[self.order[group.name][: group.size - count]]] = True
        return removed

    def by_names(self, widths: Mapping[str, int]) -> Mask:
        """Removes the least important channels of some groups down to these widths."""
        kept = [widths.get(group.name, group.size) for group in self.among]
        return self.by_counts(np.array(kept, dtype=np.int64))

    def down_to(self, group: Group, width: int) -> Mask:
        """Removes the least important channels of one group down to a width."""
        return self.by_names({group.name: width})

    def alike(self, bounds: Bounds) -> Ids:
        """Lists group numbers in the order of removal, from all pools alike.

        Pools lose channels in proportion to their size.
        """
        keys, owners = [], []
        for pool in self._pools([None] * len(self.among)):
            sequence = self._sequence(pool, bounds)
            lost = np.cumsum(self.takes[sequence])
            keys.append(lost / (self.sizes * self.takes)[pool].sum())
            owners.append(sequence)
        if not owners:
            return np.zeros(0, dtype=np.int64)
        return np.concatenate(owners)[np.argsort(np.concatenate(keys), kind="stable")]

    def losses(self, bounds: Bounds) -> list[Scores]:
        """Lists for each group the squared scores of removable channels, ascending."""
        least = bounds.of(self.among).least
        return [
            np.maximum.accumulate(self.scores[g.name][self.order[g.name][: g.size - count]]) ** 2
            for g, count in zip(self.among, least.tolist(), strict=True)
        ]

    def _pools(self, stages: Sequence[Hashable]) -> list[Ids]:
        return pools(self.groups, self.among, self.scope, stages)

    def _sequence(self, pool: Ids, bounds: Bounds) -> Ids:
        """Lists group numbers in the order of removal, within the bounds."""
        least = bounds.of(self.among).least
        owners = np.repeat(pool, (self.sizes - least)[pool])
        if len(pool) == 1:
            return np.asarray(owners)
        keys = []
        for i in pool.tolist():
            group = self.among[i]
            going = self.order[group.name][: group.size - least[i]]
            # a channel must not be removed before a less important one of its group
            keys.append(np.maximum.accumulate(self.scores[group.name][going]))
        return np.asarray(owners[np.argsort(np.concatenate(keys), kind="stable")])
