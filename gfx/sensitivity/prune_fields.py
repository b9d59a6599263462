"""Writes a narrowing of several groups as fields of channel_prune."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gfx.compression.importance import rank
from gfx.compression.selection import by_widths, removal, weakest
from gfx.coupling import Group, Groups
from gfx.coupling.channel_names import named_axes, stays
from gfx.coupling.labels import Mask
from gfx.errors import RecipeError

__all__ = ["narrowing", "width"]


def width(groups: Groups, group: Group, share: float) -> int:
    """Returns how many channels of a group are left at a share.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> width(groups, groups["project.conv"], 0.75)
        24
    """
    return group.size - int(weakest(groups, group, share)[group.roots].sum())


def narrowing(groups: Groups, widths: Mapping[str, int]) -> dict[str, Any]:
    """Returns fields of channel_prune that remove exactly the probed channels.

    They are `widths` by module where these suffice, else `kept`, which lists the channels.

    Args:
        groups: of the program.
        widths: by group name, how many of its channels stay.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> narrowing(groups, {"project.conv": 24})
        {'widths': {'project.conv': 24}}
    """
    removed = removal(groups, widths)
    stay = stays(groups, removed)
    modules = [_said_by(groups, groups[name], list(stay)) for name in widths]
    said = {module: len(stay[module][1]) for module in modules}
    if _same(groups, said, removed):
        return {"widths": said}
    return {"kept": {name: indices for name, (_, indices) in stay.items()}}


def _said_by(groups: Groups, group: Group, names: list[str]) -> str:
    """Returns the first name under which channels of a group are removed; prefers its own."""
    axes = named_axes(groups)
    mine = [n for n in names if np.isin(groups.roots[axes[n].ids], group.roots).any()]
    return group.name if group.name in mine else mine[0]


def _same(groups: Groups, widths: Mapping[str, int], removed: Mask) -> bool:
    """Whether widths remove these channels and no others."""
    ranked = rank(groups, groups.free, "l1")
    try:
        return bool(np.array_equal(by_widths(groups, groups.free, ranked, widths), removed))
    except RecipeError:
        return False
