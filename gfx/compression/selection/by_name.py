"""Removes channels module by module: down to exact widths, or to the indices that stay."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gfx.compression.importance import Scores
from gfx.coupling import Group, Groups, analyse
from gfx.coupling.channel_names import channels_of, pairs_named, stays
from gfx.coupling.labels import Axis, Ids, Mask
from gfx.coupling.removal import remove
from gfx.errors import RecipeError
from gfx.ir.program import Program

__all__ = ["by_kept", "by_widths", "narrow_to"]


def by_widths(
    groups: Groups,
    among: Sequence[Group],
    scores: Mapping[str, Scores],
    widths: Mapping[str, int],
) -> Mask:
    """Removes the least important channels of the named modules until they have these widths.

    Raises: RecipeError if a name matches nothing, a width exceeds the channels there are, channels
    can only be removed several at a time, or two widths contradict each other.
    """
    removed = groups.none_removed()
    score = np.zeros(len(removed))
    may = groups.none_removed()
    owner = np.zeros(len(removed), dtype=np.int64)  # by class: the number of its group
    for number, group in enumerate(among):
        score[group.roots] = scores[group.name]
        may[group.roots] = True
        owner[group.roots] = number
    left = np.array([group.size for group in among], dtype=np.int64)
    fixed = groups.none_removed()
    for name, axis, count in pairs_named(groups, widths):
        classes = groups.roots[channels_of(groups, axis)]
        if count > len(classes):
            raise RecipeError(
                f"widths[{name}]={count}, but it has {len(classes)} channels; pruning cannot widen"
            )
        _narrow(name, classes, count, removed, may & ~fixed, score, (owner, left))
        fixed[classes] = True
    return removed


def _narrow(
    name: str,
    classes: Ids,
    count: int,
    removed: Mask,
    may: Mask,
    score: Scores,
    groups: tuple[Ids, Ids],
) -> None:
    """Removes classes of one module, the least important first, until `count` positions stay.

    Every group keeps a class: a module may write several, as one that is split into parts.
    """
    owner, left = groups
    alive = int((~removed[classes]).sum())
    roots, first, times = np.unique(classes, return_index=True, return_counts=True)
    free = may[roots] & ~removed[roots]
    order = np.lexsort((-first[free], score[roots[free]]))
    for root, positions in zip(roots[free][order], times[free][order], strict=True):
        if alive - positions >= count and left[owner[root]] > 1:
            left[owner[root]] -= 1
            removed[root] = True
            alive -= int(positions)
    if alive != count:
        raise RecipeError(
            f"widths[{name}]={count} cannot be reached, {alive} is the nearest; its "
            "channels are pinned, go several at a time, are coupled to a width given before, or are"
            " the last of their group"
        )


def by_kept(
    groups: Groups,
    among: Sequence[Group],
    kept: Mapping[str, Sequence[int]],
) -> tuple[Mask, dict[str, tuple[int, ...]]]:
    """Removes every channel of the named modules that is not listed.

    Channels may go together now and alone once others have gone: of a GroupNorm with two groups of
    two channels a group goes first, and then one of the two channels that are left. Several prunes
    together leave that, and one repeats it in steps.

    Returns: what goes in this step, and what is left to remove from the program that results, in
    its numbers; nothing, most of the time.

    Raises: RecipeError if a name matches nothing, an index is out of range, or a channel to
    remove is pinned.
    """
    gone, left, may = (groups.none_removed() for _ in range(3))
    for group in among:
        may[group.roots] = True
    named = [
        (name, _listed(groups, axis, stay), stay) for name, axis, stay in pairs_named(groups, kept)
    ]
    for name, ids, stay in named:
        if not stay or min(stay) < 0 or max(stay) >= len(ids):
            raise RecipeError(f"kept[{name}] must list some of the channels 0 to {len(ids) - 1}")
        absent = np.setdiff1d(np.arange(len(ids)), np.asarray(stay))
        classes = groups.roots[ids[absent]]
        if not may[classes].all():
            raise RecipeError(f"kept[{name}] removes channels that are not free")
        gone[classes] = True
        left[groups.roots[ids[np.asarray(stay)]]] = True
    removed = gone & ~left
    whole = next((group for group in among if removed[group.roots].all()), None)
    if whole is not None:
        raise RecipeError(
            f"kept removes all {whole.size} channels of {whole.name}; keep one of them"
        )
    rest = dict(_left_to_remove(groups, removed, named))
    if rest and not removed.any():
        raise RecipeError(f"kept[{next(iter(rest))}] keeps a part of channels that go together")
    return removed, rest


def _listed(groups: Groups, axis: Axis, stay: Sequence[int]) -> Ids:
    """Returns the labels that a list of channels counts through.

    Of a grouped convolution earlier versions listed the indices that its groups share.
    """
    ids = channels_of(groups, axis)
    return ids if max(stay, default=0) >= axis.size else axis.ids


def _left_to_remove(
    groups: Groups, removed: Mask, named: Sequence[tuple[str, Ids, Sequence[int]]]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields the modules that have more channels than wanted, with those to keep, renumbered."""
    for name, ids, stay in named:
        alive = ~removed[groups.roots[ids]]
        if alive.sum() > len(set(stay)):
            ranks = np.cumsum(alive) - 1
            yield name, tuple(ranks[np.unique(stay)].tolist())


def narrow_to(
    program: Program, kept: Mapping[str, Sequence[int]]
) -> tuple[Mask | None, dict[str, tuple[int, list[int]]]]:
    """Removes every channel of the named modules that is not listed, from the program itself.

    Returns: the removal, None if nothing was named; and by name, how many channels there were
    and which of them stay.

    Raises: RecipeError as `by_kept` does.
    """
    if not kept:
        return None, {}
    groups = analyse(program)
    removed, rest = by_kept(groups, groups.free, kept)
    if rest:
        raise RecipeError(f"kept[{next(iter(rest))}] keeps a part of channels that go together")
    stay = stays(groups, removed)
    if removed.any():
        remove(program, groups, removed)
    return removed, stay
