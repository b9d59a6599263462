"""Names the channels of each module, as `widths` and `kept` write them in a recipe."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from gfx.coupling.groups import Group, Groups
from gfx.coupling.labels import Axis, Ids, Mask
from gfx.errors import RecipeError, did_you_mean
from gfx.ir.globs import first_unmatched, named_by

__all__ = ["channels_of", "check_globs", "modules_of", "named_axes", "pairs_named", "stays"]

T = TypeVar("T")


def modules_of(group: Group) -> tuple[str, ...]:
    """Lists the modules whose output channels a group is: producers, else owners of its tensors.

    A group that only readers are known of goes by its own name, such as `conv.in`.
    """
    owners = (m.tensor.rpartition(".")[0] or m.tensor for m in group.members)
    others = tuple(dict.fromkeys(o for o in owners if o not in group.consumers))
    return group.producers or others or (group.name,)


def check_globs(groups: Groups, given: Mapping[str, Sequence[str]]) -> None:
    """Raises RecipeError if a glob names no module, which is most likely a slip.

    Args:
        groups: of the program that the globs are about.
        given: the globs, by the name of the field that they stand in.
    """
    known = {path for path, _ in groups.program.module.named_modules() if path}
    known |= {owner for group in groups for owner in modules_of(group)}
    for key, globs in given.items():
        glob = first_unmatched(globs, known)
        if glob is not None:
            raise RecipeError(f"{key}: no module is named {glob!r}{_hint(glob, known)}")


def stays(groups: Groups, removed: Mask) -> dict[str, tuple[int, list[int]]]:
    """Writes a removal as the indices that stay; `by_kept` repeats it from this alone.

    Every module that writes channels is listed if it loses some. What no module writes (a learned
    constant, zeros that the graph makes) is listed where it is read, as `conv.in`, else by its
    tensor, as `block.gain`.

    Returns: by name, how many there were and which of them stay.
    """
    listed = groups.none_removed()
    found: dict[str, tuple[int, list[int]]] = {}
    outputs, others = _axes(groups)
    for names, always in ((outputs, True), (others, False)):
        for name, axis in names.items():
            ids = channels_of(groups, axis)
            gone = removed[groups.roots[ids]]
            classes = groups.roots[ids[gone]]
            if gone.any() and (always or not listed[classes].all()):
                listed[classes] = True
                found[name] = (len(ids), np.flatnonzero(~gone).tolist())
    return found


def channels_of(groups: Groups, axis: Axis) -> Ids:
    """Returns the label of each channel that a layer writes or reads along a dimension.

    The groups of a convolution share the indices of one dimension of its weight, which has fewer
    of them than the layer has channels.
    """
    return np.tile(axis.ids, groups.shared(axis.tensor, axis.dim))


def named_axes(groups: Groups) -> dict[str, Axis]:
    """Names every dimension that has channels, as `widths` and `kept` take them."""
    outputs, others = _axes(groups)
    return outputs | others


def _axes(groups: Groups) -> tuple[dict[str, Axis], dict[str, Axis]]:
    """Names the dimensions that modules write channels in, and all the others.

    A module's output goes by the module, what it reads by `module.in`, any other dimension by its
    tensor; where a name is taken or not enough, it is `tensor:dimension`.
    """
    tables: dict[str, dict[str, Axis]] = {"out": {}, "in": {}, "": {}}
    axes = [a for found in groups.axes.values() for a in found if a is not None]
    for wanted, table in tables.items():
        for axis in axes:
            path = axis.tensor
            if groups.role(path, axis.dim) != wanted:
                continue
            owner = path.rpartition(".")[0] or path
            name = {"out": owner, "in": f"{owner}.in"}.get(wanted, path)
            taken = any(name in other for other in tables.values())
            table[f"{path}:{axis.dim}" if taken else name] = axis
    return tables["out"], tables["in"] | tables[""]


def pairs_named(groups: Groups, given: Mapping[str, T]) -> Iterator[tuple[str, Axis, T]]:
    """Pairs each name with its dimension; a glob names modules by their output channels."""
    outputs, others = _axes(groups)
    for glob, value in given.items():
        if glob in others and glob not in outputs:
            yield glob, others[glob], value
            continue
        names = [glob] if glob in outputs else named_by(glob, outputs)
        if not names:
            hint = _hint(glob, outputs)
            raise RecipeError(f"no module named {glob!r} makes channels{hint}")
        for name in names:
            yield name, outputs[name], value


def _hint(name: str, known: Iterable[str]) -> str:
    return did_you_mean(name, known, "", cutoff=0.3)
