"""Finds where channels are read, and their mask factors.

A channel that every mask zeroes has no effect, so it ranks lowest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from gfx.compression.importance.aggregate import Scores
from gfx.coupling import Group, Groups
from gfx.coupling.call import Read
from gfx.coupling.labels import Ids
from gfx.coupling.rules.gfx_modules import positions
from gfx.ir.modules import ChannelMask, Penalty, Tap, spread
from gfx.ir.ops import argument
from gfx.ir.program import Program

__all__ = ["ReadSite", "gates", "shared", "sites_of"]


@dataclass(frozen=True)
class ReadSite:
    """A place where channels of ranked groups are read, possibly among others."""

    read: Read
    mine: NDArray[np.bool_]  # by index that one example reads: whether its channel is ranked
    numbers: Ids  # the channels read, each once, counted over all groups one after the other
    _which: Ids  # by index that is mine: position in `numbers`

    @property
    def owners(self) -> Ids:
        """The channel of each index that is ranked, counted as in `numbers`."""
        return self.numbers[self._which]

    def by_channel(self, values: Scores) -> Scores:
        """Sums the values of the indices, for each of `numbers`: a channel may own several."""
        total: Scores = np.zeros(len(self.numbers))
        np.add.at(total, self._which, values[self.mine])
        return total


def sites_of(groups: Groups, among: Sequence[Group]) -> list[ReadSite]:
    """Lists where the channels of some groups are read, in graph order."""
    if not among:
        return []
    roots = np.concatenate([g.roots for g in among])
    numbers = np.full(len(groups.roots), -1)
    numbers[roots] = np.arange(len(roots))
    sites = []
    for read in groups.reads:
        channels = numbers[groups.roots[read.channels]]
        mine = channels >= 0
        if mine.any():
            found, which = np.unique(channels[mine], return_inverse=True)
            sites.append(ReadSite(read, mine, found, which))
    return sites


def shared(among: Sequence[Group], scores: Scores) -> dict[str, Scores]:
    """Splits the scores of all channels, one group after the other, by group."""
    ends = np.cumsum([g.size for g in among])[:-1]
    return {g.name: part for g, part in zip(among, np.split(scores, ends), strict=True)}


def gates(groups: Groups, among: Sequence[Group]) -> dict[str, Scores]:
    """Returns by group name the largest factor that its masks leave of each channel.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> gates(groups, groups.free)["up.2.conv"]
        array([1., 1., 1., 1.])
    """
    if not among:
        return {}
    program = groups.program
    whole = np.zeros(sum(g.size for g in among))
    read = np.zeros(len(whole), dtype=np.bool_)
    for site in sites_of(groups, among):
        factors = _factors(program, site.read.operand, site.read.dim, len(site.mine))
        np.maximum.at(whole, site.owners, factors[site.mine])
        read[site.owners] = True
    whole[~read] = 1  # no contraction reads it, so no mask can cover all its reads
    return shared(among, whole)


def _factors(program: Program, node: fx.Node, dim: int, size: int) -> Scores:
    """Multiplies the factors of the masks before a read, by position."""
    factors = np.ones(size)
    while node.op == "call_module":
        module = program.submodule(node)
        along = (dim, dim - node.meta["val"].ndim)
        if isinstance(module, ChannelMask) and argument(node, 1, "dim", default=1) in along:
            factors = factors * _of(program, node, module, size)
        elif not isinstance(module, Penalty | Tap):
            break
        node = node.all_input_nodes[0]
    return factors


def _of(program: Program, node: fx.Node, module: ChannelMask, size: int) -> Scores:
    with torch.no_grad():
        factors = spread(module.factors(), size, positions(program, node))
    return np.asarray(factors.double().abs().cpu().numpy())
