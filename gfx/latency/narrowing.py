"""Makes a program with other widths, for the clock."""

from collections.abc import Sequence

from gfx.coupling import Groups, analyse
from gfx.edit import remove
from gfx.program import Program

__all__ = ["narrowed"]


def narrowed(groups: Groups, widths: Sequence[int]) -> Program:
    """Returns a copy of the program of some groups with its free groups at other widths.

    Which channels stay does not matter to the clock: the first ones do.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> small = narrowed(groups, [3] * len(groups.free))
        >>> sum(p.numel() for p in small.module.parameters())
        5400
    """
    flow = groups.flow
    small = flow.program.copy()
    own = analyse(small, attention=flow.attention, group_norm=flow.group_norm)
    removed = own.none_removed()
    for group, width in zip(own.free, widths, strict=True):
        removed[group.roots[int(width) :]] = True
    remove(small, own, removed)
    return small
