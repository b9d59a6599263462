"""What masks leave of each channel: one that is read as zero wherever it is read matters not."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import fx

from gfx.coupling import Group, Groups
from gfx.coupling.rules.masks import positions
from gfx.edit.arguments import argument
from gfx.importance.layers import Scores
from gfx.importance.sites import shared, sites_of
from gfx.modules import ChannelMask, Penalty, Tap, spread
from gfx.program import Program

__all__ = ["gates"]


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
    program = groups.flow.program
    whole = np.zeros(sum(g.size for g in among))
    read = np.zeros(len(whole), dtype=np.bool_)
    for site in sites_of(groups, among):
        factors = _factors(program, site.read.operand, site.read.dim, len(site.mine))
        np.maximum.at(whole, site.owners, factors[site.mine])
        read[site.owners] = True
    whole[~read] = 1  # no contraction reads it, so that no mask can be on all that does
    return shared(among, whole)


def _factors(program: Program, node: fx.Node, dim: int, size: int) -> Scores:
    """Multiplies what the masks before a read multiply each position by."""
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
