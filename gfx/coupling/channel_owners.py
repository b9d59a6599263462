"""Says of each label which group it belongs to, and which channel of it."""

from collections.abc import Iterable, Sequence

import numpy as np
from torch import fx

from gfx.coupling.groups import Group, Groups
from gfx.coupling.labelled_tensor import core, tensors
from gfx.coupling.labels import Ids

__all__ = ["ChannelOwners"]


class ChannelOwners:
    """Holds the owners of labels: numbers of some groups in the order given, -1 for all others.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> owners = ChannelOwners(groups, groups.free)
        >>> weight = groups.axes_of("up.0.conv.weight")
        >>> owners.group[weight[1].ids].tolist() == [1] * 16, owners.channel[weight[1].ids].max()
        (True, np.int64(15))
    """

    def __init__(self, groups: Groups, among: Sequence[Group]) -> None:
        self.groups = groups
        self.sizes = np.array([group.size for group in among], dtype=np.int64)
        owner = np.full(len(groups.roots), -1, dtype=np.int64)
        channel = np.zeros(len(groups.roots), dtype=np.int64)
        for i, group in enumerate(among):
            owner[group.roots], channel[group.roots] = i, np.arange(group.size)
        self.group: Ids = owner[groups.roots]  # by label
        self.channel: Ids = channel[groups.roots]

    def of(self, labels: Ids) -> frozenset[int]:
        """Returns the groups that some labels belong to."""
        return frozenset(np.unique(self.group[labels]).tolist()) - {-1}

    def of_node(self, node: fx.Node) -> frozenset[int]:
        """Returns the groups whose channels a node's value has."""
        found: frozenset[int] = frozenset()
        for value in tensors(self.groups.value_of(node)):
            for labels in value.fields:
                found |= self.of(core(labels).numpy())
        return found

    def of_tensor(self, path: str) -> frozenset[int]:
        """Returns the groups whose channels a parameter or buffer has, by its path."""
        axes = [axis for axis in self.groups.axes_of(path) if axis is not None]
        return frozenset().union(*(self.of(axis.ids) for axis in axes))

    def of_statistics(self, nodes: Iterable[fx.Node]) -> frozenset[int]:
        """Returns the groups of the tensors that some statistics of weights are taken of."""
        constants = self.groups.constants
        read = {source for node in nodes for source in constants.sources(node)}
        return frozenset().union(*(self.of_tensor(str(source.target)) for source in read))
