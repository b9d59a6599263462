"""Records a removal as plain data for the report."""

from typing import Any

import numpy as np

from gfx.coupling import Groups
from gfx.coupling.labels import Mask

__all__ = ["record"]


def record(groups: Groups, removed: Mask, kept: dict[str, list[int]]) -> dict[str, Any]:
    """Returns the removed share, how much of each group is left, and the indices that stay.

    Channels are those of the layer that a group is named after, so a group weighs as much as that
    layer is wide.

    Args:
        groups: of the program before the removal.
        removed: by class of labels, whether it is removed.
        kept: by module, the indices that stay.

    Returns: `achieved`, `approximate` (why removal is not exact, by group; only if there is one),
    `groups`, `kept`, and `tensors` (by path and dimension).
    """
    counts: list[dict[str, Any]] = []
    reasons: dict[str, str] = {}
    for group in groups.free:
        gone = int(removed[group.roots].sum()) * group.takes[0]
        if not gone:
            continue
        counts.append({"group": group.name, "channels": group.width, "removed": gone})
        if group.approximate is not None:
            reasons[group.name] = group.approximate
    gone, total = sum(int(c["removed"]) for c in counts), sum(g.width for g in groups.free)
    return {
        "achieved": {"ratio": gone / total, "removed": gone, "of": total},
        **({"approximate": reasons} if reasons else {}),
        "groups": counts,
        "kept": kept,  # given as `kept` it repeats this removal
        "tensors": _tensors(groups, groups.kept(removed)),
    }


def _tensors(groups: Groups, kept: Mask) -> dict[str, dict[str, list[int]]]:
    """Lists the indices that stay, for each tensor and dimension that loses some."""
    tensors: dict[str, dict[str, list[int]]] = {}
    for path, axes in groups.axes.items():
        for axis in axes:
            if axis is not None and not kept[axis.ids].all():
                stay = np.flatnonzero(kept[axis.ids]).tolist()
                tensors.setdefault(path, {})[str(axis.dim)] = stay
    return tensors
