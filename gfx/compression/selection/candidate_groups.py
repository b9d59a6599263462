"""Lists the groups that may be narrowed, and removes a share of each stage."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from gfx.compression.selection.bounds import Bounds
from gfx.compression.selection.removal_advice import Shares, far_from, nothing_removed
from gfx.compression.selection.selection import Selection
from gfx.coupling import Group, Groups
from gfx.coupling.channel_names import check_globs, modules_of
from gfx.coupling.labels import Mask
from gfx.errors import RecipeError
from gfx.ir.globs import matches

__all__ = ["Skipped", "by_stages", "candidates", "unrounded"]

Skipped = list[tuple[str, str]]  # (name, reason) of each group that stays


def candidates(
    groups: Groups,
    globs: Mapping[str, Sequence[str]],
    approximate: Literal["allow", "refuse"] = "allow",
    bounds: Bounds | None = None,
) -> tuple[tuple[Group, ...], tuple[Group, ...], Skipped]:
    """Lists the groups that may be narrowed, those that the bounds alone keep whole, and why.

    Args:
        groups: of the program.
        globs: over modules: `keep`, whose output channels all stay, and `targets`, whose output
            channels may be removed; others are checked alone.
        approximate: what to do with groups whose removal is not exact.
        bounds: of what groups keep; those that can lose nothing are left out. None: there are none.

    Returns: the groups that may be narrowed; those that other bounds would let lose some; and the
    reason of every group that stays whole.

    Raises: RecipeError if a glob names no module.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> among, bounded, skipped = candidates(groups, {"keep": ["up.*"]})
        >>> [group.name for group in among], skipped[1]
        (['project.conv'], ('up.0.conv', 'keep names it'))
    """
    check_globs(groups, globs)
    keep, targets = globs.get("keep", ()), globs.get("targets", ("*",))
    skipped = list(groups.refused.items())
    among, bounded = [], []
    for group in groups:
        owners = modules_of(group)
        if group.pinned:
            skipped.append((group.name, group.pinned))
        elif group.size == 1:
            skipped.append((group.name, "it has a single channel"))
        elif group.approximate and approximate == "refuse":
            skipped.append((group.name, f"approximate: refuse, and {group.approximate}"))
        elif matches(owners, keep):
            skipped.append((group.name, "keep names it"))
        elif not matches(owners, targets):
            skipped.append((group.name, "targets does not name it"))
        elif bounds is not None and (why := bounds.of([group]).whole(group)):
            skipped.append((group.name, why))
            bounded.append(group)
        else:
            among.append(group)
    return tuple(among), tuple(bounded), skipped


def by_stages(
    selection: Selection, ratios: Mapping[str, float], ratio: float | None
) -> tuple[Mask, dict[str, Any], Skipped]:
    """Removes a share of every stage: groups follow the first glob that names one of their modules.

    Args:
        selection: the groups that may be narrowed, and the order of their channels.
        ratios: the share to remove, by glob over modules; the groups of one glob are a stage.
        ratio: the share of the groups that no glob names; None: they stay, but if there are no
            ratios half of each group is removed.

    Returns: the removed channels; for the report what was `requested`, and a `note` if much less
    goes; and the groups that stay.

    Raises: PreconditionError if nothing can be removed although a share is above 0; RecipeError if
    the scope needs a budget.
    """
    if selection.scope == "knapsack":
        raise RecipeError(
            "scope=knapsack weighs channels by what they save of a budget; give a budget, or use "
            "scope: global"
        )
    ratio = 0.5 if ratio is None and not ratios else ratio
    shares = _shares((*selection.among, *selection.bounded), ratios, ratio)
    unnamed = "no glob of ratios names it, and there is no ratio"
    skipped = [(group.name, unnamed) for group in selection.among if group.name not in shares]
    chosen = _among(selection, shares)
    removed = chosen.by_ratio([shares[group.name] for group in chosen.among])
    if not removed.any() and any([*ratios.values(), ratio]):
        asked = f"ratios={dict(ratios)}" if ratios else f"ratio={ratio}"
        raise nothing_removed(chosen, shares, asked)
    given = {"ratio": ratio, "ratios": ratios or None}
    details: dict[str, Any] = {"requested": {k: v for k, v in given.items() if v is not None}}
    wanted = sum(group.width * shares[group.name][1] for group in chosen.among)
    if note := far_from(wanted, chosen, removed, shares):
        details["note"] = note
    return removed, details, [*skipped, *unrounded(chosen, removed)]


def unrounded(selection: Selection, removed: Mask) -> Skipped:
    """Says of which groups nothing goes, although it could: rounded up they are whole."""
    whole = [group for group in selection.among if not removed[group.roots].any()]
    return [
        (group.name, f"all its {group.width} channels stay in steps of {step}")
        for group in whole
        if (step := int(selection.bounds.of([group]).strides[0]) * group.takes[0]) > 1
    ]


def _shares(groups: Iterable[Group], ratios: Mapping[str, float], ratio: float | None) -> Shares:
    """Returns the glob and the share of each group that has one."""
    shares: Shares = {}
    for group in groups:
        names = modules_of(group)
        glob = next((glob for glob in ratios if matches(names, glob)), None)
        share = ratio if glob is None else ratios[glob]
        if share is not None:
            shares[group.name] = (glob, share)
    return shares


def _among(selection: Selection, shares: Shares) -> Selection:
    """Returns the selection among the groups that have a share."""
    among, bounded = (
        tuple(group for group in found if group.name in shares)
        for found in (selection.among, selection.bounded)
    )
    return replace(selection, among=among, bounded=bounded)
