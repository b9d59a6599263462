"""Forms the groups: channels that reach into the same dimensions of the same tensors."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfx.coupling.flow import Flow
from gfx.coupling.groups import Group, Groups, Member
from gfx.coupling.labels import Ids

__all__ = ["collect"]


def collect(flow: Flow) -> Groups:
    """Forms the groups from the labels of a finished analysis."""
    roots = flow.labels.roots()
    owned = [a for axes in flow.axes.values() for a in axes if a is not None]
    if not owned:
        return Groups((), flow, roots)
    labels = np.concatenate([a.ids for a in owned])
    axis_of = np.repeat(np.arange(len(owned)), [a.size for a in owned])
    index_of = np.concatenate([np.arange(a.size) for a in owned])
    pins, marks = flow.labels.pins(), flow.labels.marks()
    signature = _signatures(roots[labels], axis_of, (pins, marks), len(roots))
    groups = []
    order = np.argsort(signature, kind="stable")  # entries of one group lie side by side
    edges = np.flatnonzero(np.diff(signature[order])) + 1
    for part in np.split(order, edges):
        part = np.sort(part)
        group = _group(flow, owned, roots[labels[part]], axis_of[part], index_of[part])
        first = int(group.roots[0])
        groups.append(replace(group, pinned=pins.get(first), approximate=marks.get(first)))
    groups.sort(key=lambda g: int(g.roots[0]))
    return Groups(tuple(_unique_names(groups)), flow, roots)


def _signatures(
    classes: Ids, axis_of: Ids, notes: tuple[dict[int, str], ...], count: int
) -> NDArray[np.uint64]:
    """Hashes for each entry how often its class is on which axes, and its pins and marks."""
    salt = np.random.default_rng(0).integers(1, 2**63, size=int(axis_of.max()) + 1, dtype=np.uint64)
    # a class counts once for each of its positions: a group's channels are all of one kind
    total = np.zeros(count, dtype=np.uint64)
    np.add.at(total, classes, salt[axis_of])
    texts = dict.fromkeys((i, why) for i, note in enumerate(notes) for why in note.values())
    numbers = {text: n + 1 for n, text in enumerate(texts)}
    for i, note in enumerate(notes):
        for root, why in note.items():
            total[root] ^= np.uint64(0x9E3779B97F4A7C15 * numbers[i, why] % 2**64)
    return total[classes]


def _group(flow: Flow, owned: list[Any], classes: Ids, axis_of: Ids, index_of: Ids) -> Group:
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
    )


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
