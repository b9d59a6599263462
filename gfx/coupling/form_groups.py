"""Forms the groups: channels that reach into the same dimensions of the same tensors."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfx.coupling.flow import Flow
from gfx.coupling.groups import Group, Groups, Member
from gfx.coupling.labels import Axis, Ids, Reasons

__all__ = ["collect"]


def collect(flow: Flow) -> Groups:
    """Forms the groups from the labels of a finished analysis."""
    roots = flow.labels.roots()
    owned = [a for axes in flow.axes.values() for a in axes if a is not None]
    if not owned:
        return Groups((), flow, roots)
    labels = np.concatenate([a.ids for a in owned])
    axis_of = np.repeat(np.arange(len(owned), dtype=np.int32), [a.size for a in owned])
    index_of = np.concatenate([np.arange(a.size) for a in owned])
    pins, marks = flow.labels.pins(), flow.labels.marks()
    signature = _signatures(roots, owned, (pins, marks))[roots[labels]]
    groups = []
    order = np.argsort(signature, kind="stable")  # entries of one group lie side by side
    edges = np.flatnonzero(np.diff(signature[order])) + 1
    del signature
    for part in np.split(order, edges):
        part = np.sort(part)
        group = _group(flow, owned, roots[labels[part]], axis_of[part], index_of[part])
        first = int(group.roots[0])
        groups.append(replace(group, pinned=pins.of(first), approximate=marks.of(first)))
    groups.sort(key=lambda g: int(g.roots[0]))
    return Groups(tuple(_unique_names(groups)), flow, roots)


def _signatures(roots: Ids, owned: list[Axis], notes: tuple[Reasons, ...]) -> NDArray[np.uint64]:
    """Hashes for each class how often it is on which axes, and its pins and marks."""
    salt = np.random.default_rng(0).integers(1, 2**63, size=len(owned), dtype=np.uint64)
    # a class counts once for each of its positions: a group's channels are all of one kind
    total = np.zeros(len(roots), dtype=np.uint64)
    for axis, number in zip(owned, salt, strict=True):
        np.add.at(total, roots[axis.start : axis.start + axis.size], number)
    first = 1
    for note in notes:
        hashes = [0x9E3779B97F4A7C15 * n % 2**64 for n in range(first, first + len(note.texts))]
        total ^= np.array([0, *hashes], dtype=np.uint64)[note.numbers]
        first += len(note.texts)
    return total


def _group(
    flow: Flow, owned: list[Any], classes: Ids, axis_of: NDArray[np.int32], index_of: Ids
) -> Group:
    """Makes the group of one signature."""
    # channels in the order of their first index, so that names and scores read naturally
    firsts, channel = np.unique(classes, return_inverse=True)
    members = []
    starts = np.flatnonzero(np.diff(axis_of, prepend=-1)).tolist()  # entries come axis by axis
    for start, end in pairwise([*starts, len(axis_of)]):
        axis = owned[int(axis_of[start])]
        members.append(Member(axis.tensor, axis.dim, index_of[start:end], channel[start:end]))
    producers, consumers = _roles(flow, members)
    owner, _, leaf = members[0].tensor.rpartition(".")
    unnamed = f"{consumers[0]}.in" if consumers else owner or leaf
    name = producers[0] if producers else unnamed
    return Group(
        name=name,
        size=len(firsts),
        members=tuple(members),
        producers=producers,
        consumers=consumers,
        pinned=None,
        roots=firsts,
        takes=_takes(flow, members, len(firsts)),
    )


def _takes(flow: Flow, members: list[Member], size: int) -> tuple[int, ...]:
    """Counts the channels of each layer that one channel of the group is.

    An index of a dimension stands for several where the groups of a convolution share it. All
    channels of a group take as many: that is what makes them one group.
    """
    found: dict[str, list[int]] = {"out": [], "in": [], "": []}
    for m in members:
        of = (m.tensor, m.dim)
        each = len(m.index) // size * flow.shared.get(of, 1)
        found[flow.roles.get(of, "")].append(each)
    layers = found["out"] + found["in"] or found[""]
    return tuple(dict.fromkeys(layers))


def _roles(flow: Flow, members: list[Member]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the modules that write the channels, and those that read them."""
    producers, consumers = [], []
    for m in members:
        owner, _, leaf = m.tensor.rpartition(".")
        role = flow.roles.get((m.tensor, m.dim))
        if role == "out":
            producers.append(owner or leaf)
        elif role == "in":
            consumers.append(owner or leaf)
    return tuple(dict.fromkeys(producers)), tuple(dict.fromkeys(consumers))


def _unique_names(groups: list[Group]) -> Iterator[Group]:
    """Numbers groups that share a producer: conv, then conv#2."""
    seen: dict[str, int] = {}
    for group in groups:
        seen[group.name] = seen.get(group.name, 0) + 1
        n = seen[group.name]
        yield group if n == 1 else replace(group, name=f"{group.name}#{n}")
