"""Decides what becomes of channels that are read as zero: removed, or kept as zeros."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import fx

from gfx.compression.masks.strip_masks import Zeroed
from gfx.coupling import Groups
from gfx.coupling.labelled_tensor import Labeled, core, varying
from gfx.coupling.labels import Ids, Mask
from gfx.coupling.removal import Sizes
from gfx.ir.ops import op_name

__all__ = ["Verdict", "carried", "judge", "reread"]

_PRODUCTS = ("conv", "linear", "matmul", "mm", "bmm")  # of two operands, over one dimension


@dataclass(frozen=True)
class Verdict:
    """Which channels may be removed, and what is left to be zeroed."""

    removed: Mask  # by class of labels
    left: tuple[Zeroed, ...]  # reads of channels that stay, by positions after the removal
    why: dict[str, str]  # by mask: why some of its zeros remove nothing
    classes: dict[int, str]  # by class of labels that stays though it is read as zero: why


def judge(groups: Groups, zeroed: Sequence[Zeroed]) -> Verdict:
    """Finds the channels whose removal equals the zeros: all that reads them reads zero.

    1. Every read of the channel reads zero.
    2. Its group is free and its removal exact.
    3. At least one channel of a group stays.
    """
    known = {(z.user, z.source, z.dim): z for z in zeroed}
    removed = groups.none_removed()
    why: dict[int, str] = {}
    for read in groups.reads:
        z = known.get((read.node, read.operand, read.dim))
        if z is not None:
            removed[groups.roots[read.ids[z.zeros]]] = True
    for node, unmasked in _unmasked(groups, known).items():  # rule 1
        _stay(removed, why, unmasked, f"{_spell(node)} reads them unmasked")
    for group in groups:
        if group.pinned or group.approximate:  # rule 2
            reason = group.pinned or f"their removal is approximate: {group.approximate}"
            _stay(removed, why, group.roots, reason)
        elif removed[group.roots].all():  # rule 3
            _stay(removed, why, group.roots[:1], f"all of {group.name} is zero; one stays")
    owned = groups.none_removed()
    for group in groups:
        owned[group.roots] = True
    _stay(removed, why, np.flatnonzero(~owned), "no layer holds them")
    return _verdict(groups, removed, zeroed, why)


def _unmasked(
    groups: Groups, known: Mapping[tuple[fx.Node, fx.Node, int], Zeroed]
) -> dict[fx.Node, Ids]:
    """Lists for each node the classes that it reads values other than zero of.

    Of a product, one of the two operands is enough: their channels meet one by one.
    """
    found: dict[fx.Node, tuple[list[Ids], list[Ids]]] = {}
    for read in groups.reads:
        z = known.get((read.node, read.operand, read.dim))
        every = groups.roots[read.ids]
        values = every if z is None else every[~z.zeros]
        opened, closed = found.setdefault(read.node, ([], []))
        opened.append(values)
        closed.append(np.setdiff1d(every, values))
    result = {}
    for node, (opened, closed) in found.items():
        one = node.op != "call_module" and op_name(node).startswith(_PRODUCTS)
        zero = np.concatenate(closed) if one else np.array([], dtype=np.int64)
        result[node] = np.setdiff1d(np.concatenate(opened), zero)
    return result


def reread(left: Iterable[Zeroed], known: Collection[fx.Node]) -> tuple[Zeroed, ...]:
    """Finds what each user reads after a removal, which may have corrected it by nodes of its own.

    Args:
        left: the reads before it.
        known: the nodes that were there before.
    """
    found = []
    for z in left:
        source = z.source
        while source not in z.user.all_input_nodes:
            source = next(user for user in source.users if user not in known)
        found.append(replace(z, source=source))
    return tuple(found)


def carried(old: Groups, removed: Mask, new: Groups) -> Mask:
    """Finds removed channels again, after the program was edited around its tensors."""
    found = new.none_removed()
    for path, axes in old.axes.items():
        for axis, same in zip(axes, new.axes[path], strict=True):
            if axis is not None and same is not None:
                gone = removed[old.roots[axis.ids]]
                found[new.roots[same.ids[gone]]] = True
    return found


def _stay(removed: Mask, why: dict[int, str], classes: Ids, reason: str) -> None:
    for root in np.unique(classes[removed[classes]]).tolist():
        removed[root] = False
        why.setdefault(root, reason)


def _verdict(
    groups: Groups, removed: Mask, zeroed: Iterable[Zeroed], why: dict[int, str]
) -> Verdict:
    """Lists the reads of zeros that stay, and one reason for each mask."""
    sizes = Sizes(groups, removed)
    left, reasons = [], {}
    for z in zeroed:
        value = groups.value_of(z.source)
        assert isinstance(value, Labeled)
        alive = sizes.alive(value, z.dim)
        zeros = z.zeros & alive
        if zeros.any():
            left.append(replace(z, zeros=zeros[alive]))
            reason = _reason(groups, value, z.dim, zeros, why)
            reasons.update(dict.fromkeys(z.masks, reason))
    return Verdict(removed, tuple(left), reasons, why)


def _reason(groups: Groups, value: Labeled, dim: int, zeros: Mask, why: dict[int, str]) -> str:
    """Says why the channels at some positions stay."""
    for labels in value.fields:
        if dim in varying(labels):
            rows = core(labels).movedim(dim, 0).reshape(value.shape[dim], -1).numpy()
            for root in groups.roots[rows[zeros]].ravel().tolist():
                if root in why:
                    return why[root]
    return value.why or "others write these channels too, or read them unmasked"


def _spell(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name
