"""Where channels are read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gfx.coupling import Group, Groups
from gfx.coupling.calls import Read
from gfx.coupling.labels import Ids
from gfx.importance.layers import Scores

__all__ = ["Site", "shared", "sites_of"]


@dataclass(frozen=True)
class Site:
    """A place where channels of ranked groups are read, among others perhaps."""

    read: Read
    mine: NDArray[np.bool_]  # by index that is read: whether its channel is ranked
    numbers: Ids  # the channels read, each once, counted over all groups one after the other
    _which: Ids  # by index that is mine: position in `numbers`

    @property
    def owners(self) -> Ids:
        """The channel of each index that is ranked, counted as in `numbers`."""
        return self.numbers[self._which]

    def by_channel(self, values: Scores) -> Scores:
        """Adds up what the indices have, for each of `numbers`: a channel may own several."""
        total: Scores = np.zeros(len(self.numbers))
        np.add.at(total, self._which, values[self.mine])
        return total


def sites_of(groups: Groups, among: Sequence[Group]) -> list[Site]:
    """Lists where the channels of some groups are read, in graph order."""
    if not among:
        return []
    roots = np.concatenate([g.roots for g in among])
    numbers = np.full(len(groups.roots), -1)
    numbers[roots] = np.arange(len(roots))
    place = {node: i for i, node in enumerate(groups.flow.program.graph.nodes)}
    reads = {(r.node, r.operand, r.dim): r for r in groups.flow.reads}  # none counts twice
    sites = []
    for read in sorted(reads.values(), key=lambda r: place[r.node]):
        channels = numbers[groups.roots[read.ids]]
        mine = channels >= 0
        if mine.any():
            found, which = np.unique(channels[mine], return_inverse=True)
            sites.append(Site(read, mine, found, which))
    return sites


def shared(among: Sequence[Group], scores: Scores) -> dict[str, Scores]:
    """Cuts the scores of all channels, one group after the other, into those of each."""
    ends = np.cumsum([g.size for g in among])[:-1]
    return {g.name: part for g, part in zip(among, np.split(scores, ends), strict=True)}
