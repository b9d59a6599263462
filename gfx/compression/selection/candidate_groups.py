"""Lists the groups that may be narrowed, and removes a share of each stage."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from gfx.compression.selection.bounds import Bounds
from gfx.compression.selection.selection import Selection
from gfx.coupling import Group, Groups
from gfx.coupling.channel_names import check_globs, modules_of
from gfx.coupling.labels import Mask
from gfx.errors import PreconditionError, RecipeError
from gfx.ir.globs import matches

__all__ = ["Skipped", "by_stages", "candidates", "unrounded"]

_FAR = 0.1  # of the channels that were asked for

Skipped = list[tuple[str, str]]  # (name, reason) of each group that stays


def candidates(
    groups: Groups,
    globs: Mapping[str, Sequence[str]],
    approximate: Literal["allow", "refuse"] = "allow",
    bounds: Bounds | None = None,
) -> tuple[tuple[Group, ...], Skipped]:
    """Lists the groups that may be narrowed, and says why the others may not.

    Args:
        groups: of the program.
        globs: over modules: `keep`, whose output channels all stay, and `targets`, whose output
            channels may be removed; others are checked alone.
        approximate: what to do with groups whose removal is not exact.
        bounds: of what groups keep; those that can lose nothing are left out. None: there are none.

    Raises: RecipeError if a glob names no module.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> among, skipped = candidates(groups, {"keep": ["up.*"]})
        >>> [group.name for group in among], skipped[1]
        (['project.conv'], ('up.0.conv', 'keep names it'))
    """
    check_globs(groups, globs)
    keep, targets = globs.get("keep", ()), globs.get("targets", ("*",))
    skipped = list(groups.refused.items())
    among = []
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
        else:
            among.append(group)
    return tuple(among), skipped


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
    shares: dict[str, tuple[str | None, float]] = {}
    skipped = []
    for group in selection.among:
        names = modules_of(group)
        glob = next((glob for glob in ratios if matches(names, glob)), None)
        share = ratio if glob is None else ratios[glob]
        if share is None:
            skipped.append((group.name, "no glob of ratios names it, and there is no ratio"))
        else:
            shares[group.name] = (glob, share)
    among = tuple(group for group in selection.among if group.name in shares)
    chosen = replace(selection, among=among)
    removed = chosen.by_ratio([shares[group.name] for group in among])
    if not removed.any() and any([*ratios.values(), ratio]):
        raise _nothing_removed(selection, f"ratios={dict(ratios)}" if ratios else f"ratio={ratio}")
    asked = {"ratio": ratio, "ratios": ratios or None}
    details: dict[str, Any] = {"requested": {k: v for k, v in asked.items() if v is not None}}
    wanted = sum(group.width * shares[group.name][1] for group in among)
    if note := _far_from(wanted, chosen, removed):
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


def _far_from(wanted: float, selection: Selection, removed: Mask) -> str:
    """Says that much less goes than was asked for; "" if it does not."""
    gone = sum(int(removed[g.roots].sum()) * g.takes[0] for g in selection.among)
    whole = sum(not removed[g.roots].any() for g in selection.among)
    if gone >= wanted * (1 - _FAR):
        return ""
    of = sum(group.width for group in selection.among)
    return (
        f"{gone} of {of} channels go, and {wanted:.0f} were asked for: {whole} of "
        f"{len(selection.among)} groups stay whole, the others are rounded up "
        f"({selection.bounds}); {selection.bounds.looser}"
    )


def _nothing_removed(selection: Selection, asked: str) -> PreconditionError:
    """Makes the error that says why a request removes nothing."""
    groups = selection.groups
    free = ", ".join(f"{g.name} ({g.width})" for g in groups.free[:6]) or "none"
    reasons = [f"{g.name}: {g.pinned}" for g in groups if g.pinned]
    pinned = "; ".join(reasons or groups.refused.values())
    return PreconditionError(
        f"{asked} removes nothing ({selection.bounds}); {selection.bounds.looser}. Free "
        f"groups and their channels: {free}. Pinned groups: {pinned[:600] or 'none'}"
    )
