"""Marks the least important channels of groups."""

from collections.abc import Mapping

from gfx.compression.importance import Importance, rank
from gfx.compression.selection.bounds import Bounds
from gfx.compression.selection.selection import Selection
from gfx.coupling import Group, Groups
from gfx.coupling.labels import Mask
from gfx.errors import InputError

__all__ = ["removal", "weakest"]


def weakest(
    groups: Groups,
    group: Group,
    share: float,
    importance: Importance = "l1",
    bounds: Bounds = Bounds(),  # noqa: B008 - immutable
) -> Mask:
    """Marks the least important channels of a group, so that a share of it is left.

    `channel_prune` with `ratio: 1 - share` removes the same channels of this group alone, within
    the same bounds.

    Raises: InputError if the share is not between 0 and 1, or the group may not be narrowed.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> int(weakest(groups, groups["project.conv"], 0.75).sum())
        8
    """
    if not 0 < share <= 1:
        raise InputError(f"share={share} of {group.name} must be above 0 and at most 1")
    if not group.free:
        why = group.pinned or "it has a single channel"
        raise InputError(f"{group.name} cannot be narrowed: {why}")
    ranked = rank(groups, [group], importance)
    return Selection(groups, (group,), ranked, bounds).by_ratio([(None, 1 - share)])


def removal(groups: Groups, widths: Mapping[str, int]) -> Mask:
    """Marks the weakest channels of some groups, so that as many stay as the widths say.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> int(removal(groups, {"project.conv": 20}).sum())
        12
    """
    removed = groups.none_removed()
    for name, width in widths.items():
        share = width / groups[name].size
        removed |= weakest(groups, groups[name], share, bounds=Bounds(min_channels=1))
    return removed
