"""Says why channels stay, and which fields of a pass would let more of them go.

Every field that is named was tried: with it loosened more channels go.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from gfx.compression.selection.bounds import Bounds
from gfx.compression.selection.selection import Selection
from gfx.coupling import Groups
from gfx.coupling.labels import Mask
from gfx.errors import PreconditionError

__all__ = ["Shares", "far_from", "nothing_removed", "said_reasons", "what_stands"]

_FAR = 0.1  # of the channels that were asked for
_BY_NAME = "keep, targets or approximate"
_MOST = 1 - 1e-6  # of a group: a share is below 1

Shares = dict[str, tuple[str | None, float]]  # by group: the glob of its stage, what goes of it


def said_reasons(reasons: Iterable[tuple[str, str]], most: int = 4) -> str:
    """Writes why groups stay as they are, one reason once; "" if there is none.

    Example:
        >>> said_reasons([("0", "it is masked"), ("1.in", "it is an input"), ("2", "it is masked")])
        '0, 2: it is masked; 1.in: it is an input'
    """
    names: dict[str, list[str]] = {}
    for name, why in reasons:
        names.setdefault(why, []).append(name)
    said = [
        f"{', '.join(who[:most])}{f' and {len(who) - most} more' if len(who) > most else ''}: {why}"
        for why, who in list(names.items())[:most]
    ]
    said += [f"and {len(names) - most} other reasons"] if len(names) > most else []
    return "; ".join(said)


def what_stands(groups: Groups) -> str:
    """Says why the channels of groups cannot go, for an error."""
    pinned = [(group.name, group.pinned) for group in groups if group.pinned]
    return said_reasons(pinned or groups.refused.items()) or "nothing is pinned"


def _count(selection: Selection, bounds: Bounds, shares: Shares) -> int:
    """Counts the channels that would go under other bounds."""
    among = (*selection.among, *selection.bounded)
    # a group that is kept whole is not ranked; how many would go hardly depends on which
    scores = {g.name: selection.scores.get(g.name, np.arange(g.size, dtype=float)) for g in among}
    other = replace(selection, among=among, bounded=(), scores=scores, bounds=bounds)
    removed = other.by_ratio([shares[group.name] for group in among])
    return sum(int(removed[g.roots].sum()) * g.takes[0] for g in among)


def _looser(selection: Selection, shares: Shares, gone: int = 0) -> str:
    """Says which bounds to loosen so that more channels go than these; "" if none helps."""
    found = selection.bounds.looser()
    helps = [w for w, bounds in found.items() if _count(selection, bounds, shares) > gone]
    alone = [words for words in helps if " and " not in words]
    return " or ".join(alone) or "".join(helps)


def far_from(wanted: float, selection: Selection, removed: Mask, shares: Shares) -> str:
    """Says that much less goes than was asked for; "" if it does not."""
    gone = sum(int(removed[g.roots].sum()) * g.takes[0] for g in selection.among)
    whole = sum(not removed[g.roots].any() for g in selection.among)
    if gone >= wanted * (1 - _FAR):
        return ""
    of = sum(group.width for group in selection.among)
    text = (
        f"{gone} of {of} channels go, and {wanted:.0f} were asked for: {whole} of "
        f"{len(selection.among)} groups stay whole, the others are rounded up "
        f"({selection.bounds})"
    )
    advice = _looser(selection, shares, gone)
    return f"{text}; {advice}" if advice else text


def nothing_removed(selection: Selection, shares: Shares, asked: str) -> PreconditionError:
    """Makes the error that says why a request removes nothing, and what would let some go."""
    groups = selection.groups
    free = ", ".join(f"{g.name} ({g.width})" for g in groups.free[:6]) or "none"
    what = _looser(selection, shares) or _higher(selection, shares, asked.partition("=")[0])
    return PreconditionError(
        f"{asked} removes nothing ({selection.bounds}); {what}. Free "
        f"groups and their channels: {free}. Pinned groups: {what_stands(groups)}"
    )


def _higher(selection: Selection, shares: Shares, field: str) -> str:
    """Says that larger shares would let some go, under these bounds or looser ones, or none."""
    more = {name: (glob, _MOST) for name, (glob, _) in shares.items()}
    if _count(selection, selection.bounds, more):
        return f"raise {field}"
    if advice := _looser(selection, more):
        return f"raise {field} and {advice}"
    if not selection.groups.free:
        return "no group is free"
    fields = "keep, targets, approximate or ratios" if field == "ratios" else _BY_NAME
    return f"{fields} leave none of the free groups to narrow"
