"""Chooses channels by what a user names: widths, or the channels kept."""

from collections.abc import Mapping, Sequence

import numpy as np

from gfx.compression.importance import Scores
from gfx.coupling import Group, Groups
from gfx.coupling.channel_names import _named
from gfx.coupling.labels import Ids, Mask
from gfx.errors import RecipeError

__all__ = ["by_kept", "by_widths"]


def by_widths(
    groups: Groups,
    among: Sequence[Group],
    scores: Mapping[str, Scores],
    widths: Mapping[str, int],
) -> Mask:
    """Removes the least important channels of the named modules until they have these widths.

    Raises: RecipeError if a name matches nothing, a width exceeds what is there, channels go only
    several at a time, or two widths contradict each other.
    """
    removed = groups.none_removed()
    score = np.zeros(len(removed))
    may = groups.none_removed()
    for group in among:
        score[group.roots] = scores[group.name]
        may[group.roots] = True
    settled = groups.none_removed()
    for name, axis, count in _named(groups, widths):
        classes = groups.roots[axis.ids]
        if count > axis.size:
            raise RecipeError(
                f"channel_prune: widths[{name}]={count}, but it has {axis.size} channels; "
                "pruning cannot widen"
            )
        _narrow(name, classes, count, removed, may & ~settled, score)
        settled[classes] = True
    return removed


def _narrow(name: str, classes: Ids, count: int, removed: Mask, may: Mask, score: Scores) -> None:
    """Removes classes of one module, the least important first, until `count` positions stay."""
    alive = int((~removed[classes]).sum())
    roots, first, times = np.unique(classes, return_index=True, return_counts=True)
    free = may[roots] & ~removed[roots]
    order = np.lexsort((-first[free], score[roots[free]]))
    for root, positions in zip(roots[free][order], times[free][order], strict=True):
        if alive - positions >= count:
            removed[root] = True
            alive -= int(positions)
    if alive != count:
        raise RecipeError(
            f"channel_prune: widths[{name}]={count} cannot be reached, {alive} is the nearest; its "
            "channels are pinned, go several at a time, or are coupled to a width given before"
        )


def by_kept(
    groups: Groups,
    among: Sequence[Group],
    kept: Mapping[str, Sequence[int]],
    who: str = "channel_prune",
) -> Mask:
    """Removes every channel of the named modules that is not listed; `who` begins messages.

    Raises: RecipeError if a name matches nothing, an index is out of range, or a channel that
    would go is pinned.
    """
    removed = groups.none_removed()
    may = groups.none_removed()
    for group in among:
        may[group.roots] = True
    for name, axis, stay in _named(groups, kept, who):
        if not stay or min(stay) < 0 or max(stay) >= axis.size:
            raise RecipeError(
                f"{who}: kept[{name}] must list some of the channels 0 to {axis.size - 1}"
            )
        gone = np.setdiff1d(np.arange(axis.size), np.asarray(stay))
        classes = groups.roots[axis.ids[gone]]
        if not may[classes].all():
            raise RecipeError(f"{who}: kept[{name}] removes channels that are not free")
        if np.isin(groups.roots[axis.ids[np.asarray(stay)]], classes).any():
            raise RecipeError(f"{who}: kept[{name}] keeps a part of channels that go together")
        removed[classes] = True
    return removed
