"""Channel groups: which slices of which tensors must be kept or removed together."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfx.coupling.flow import Flow
from gfx.coupling.labels import Ids

__all__ = ["Channel", "Group", "Groups", "Member"]


@dataclass(frozen=True)
class Member:
    """One dimension of one tensor that a group reaches into.

    `index[k]` of dimension `dim` belongs to the group's channel `channel[k]`.
    """

    tensor: str  # dotted path of a parameter or buffer
    dim: int
    index: Ids
    channel: Ids


@dataclass(frozen=True)
class Channel:
    """One channel: the exact set of slices that go together."""

    members: frozenset[tuple[str, int, int]]  # (tensor, dim, index)


@dataclass(frozen=True)
class Group:
    """Channels that reach into the same dimensions of the same tensors.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan")))
        >>> [(group.name, group.size) for group in groups if group.free][0]
        ('project.conv', 512)
    """

    name: str  # the module that produces the channels
    size: int  # number of channels
    members: tuple[Member, ...]
    producers: tuple[str, ...]  # modules (or tensors) whose outputs these channels are
    consumers: tuple[str, ...]  # modules (or tensors) that read them
    pinned: str | None  # why the channels cannot be removed
    roots: Ids  # one class of labels per channel
    approximate: str | None = None  # why removal is not exact

    @property
    def free(self) -> bool:
        """Whether channels of this group may be removed."""
        return self.pinned is None and self.size > 1

    @property
    def exact(self) -> bool:
        """Whether removing channels equals zeroing what reads them."""
        return self.approximate is None

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels, each with the slices it consists of."""
        found: list[set[tuple[str, int, int]]] = [set() for _ in range(self.size)]
        for m in self.members:
            for index, channel in zip(m.index.tolist(), m.channel.tolist(), strict=True):
                found[channel].add((m.tensor, m.dim, index))
        return tuple(Channel(frozenset(members)) for members in found)

    def to_dict(self) -> dict[str, Any]:
        """Returns the group as plain data."""
        return {
            "name": self.name,
            "size": self.size,
            "free": self.free,
            "exact": self.exact,
            "pinned": self.pinned,
            "approximate": self.approximate,
            "producers": list(self.producers),
            "consumers": list(self.consumers),
            "members": [
                {"tensor": m.tensor, "dim": m.dim, "positions": len(m.index)} for m in self.members
            ],
        }


@dataclass(frozen=True)
class Groups:
    """All channel groups of a program, in the order in which their channels appear."""

    groups: tuple[Group, ...]
    flow: Flow
    roots: Ids  # by label: the class it is in

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, name: str | int) -> Group:
        if isinstance(name, int):
            return self.groups[name]
        named = [g for g in self.groups if g.name == name]
        for group in named or self.groups:
            if group.name == name or name in group.producers:
                return group
        raise KeyError(name)

    @property
    def free(self) -> tuple[Group, ...]:
        """The groups whose channels may be removed."""
        return tuple(group for group in self.groups if group.free)

    @cached_property
    def graph(self) -> Any:
        """The couplings as a networkx graph: nodes are (tensor, dim), edges hold group names."""
        import networkx

        graph: Any = networkx.Graph()
        for group in self.groups:
            nodes = [(m.tensor, m.dim) for m in group.members]
            graph.add_nodes_from(nodes)
            for a, b in pairwise(nodes):
                names = graph.get_edge_data(a, b, {"groups": ()})["groups"]
                graph.add_edge(a, b, groups=(*names, group.name))
        return graph

    def kept(self, removed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Tells for each label whether it stays, given for each class whether it goes."""
        return ~removed[self.roots]

    def none_removed(self) -> NDArray[np.bool_]:
        """Returns a mask over classes that removes nothing; set entries of `group.roots` in it."""
        return np.zeros(len(self.roots), dtype=np.bool_)

    def __str__(self) -> str:
        lines = []
        for group in self.groups:
            state = "free" if group.free else f"pinned: {group.pinned or 'a single channel'}"
            if group.free and group.approximate:
                state += f", approximate: {group.approximate}"
            lines.append(f"{group.name}: {group.size} channels, {state}")
        return "\n".join(lines)


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
    """Hashes for each entry how often its class is on which axes, and what is said of it."""
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
    """Tells which modules write the channels and which read them."""
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
