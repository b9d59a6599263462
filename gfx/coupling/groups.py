"""Defines channel groups: the slices of tensors that are kept or removed together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, fx

from gfx.coupling.call import Read, Statistic
from gfx.coupling.flow import Flow
from gfx.coupling.labelled_tensor import Labeled, core
from gfx.coupling.labels import Axis, Ids
from gfx.coupling.weight_statistics import Constants
from gfx.ir.ambient_modes import shielded
from gfx.ir.program import Program

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


@shielded
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
    size: int  # number of channels: what goes together is one
    members: tuple[Member, ...]
    producers: tuple[str, ...]  # modules (or tensors) whose outputs these channels are
    consumers: tuple[str, ...]  # modules (or tensors) that read them
    pinned: str | None  # why the channels cannot be removed
    roots: Ids  # one class of labels per channel
    approximate: str | None = None  # why removal is not exact
    # how many channels of a layer each of them takes: first of the layer that names the group, then
    # of every other that writes or reads it; more than 1 where layers must lose several alike
    takes: tuple[int, ...] = (1,)

    @property
    def width(self) -> int:
        """The channels that the group takes of the layer that it is named after.

        Example:
            >>> import gfx, torch
            >>> from torch import nn
            >>> model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.PixelShuffle(2), nn.Conv2d(4, 8, 1))
            >>> group = gfx.channels(gfx.trace(model, (torch.ones(1, 3, 4, 4),)))["0"]
            >>> group.size, group.width, group.takes
            (4, 16, (4, 1))
        """
        return self.size * self.takes[0]

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
            "width": self.width,
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


@shielded
@dataclass(frozen=True)
class Groups:
    """All channel groups of a program, in the order in which their channels appear.

    Beside the groups it answers what the analysis found of tensors (`axes`, `axes_of`, `path_of`,
    `role`) and of nodes (`reads`, `statistics`, `constants`, `value_of`, `labels_of`, `regroups`,
    `averages`, `mac_sizes`). All of it is read-only. A label stands for one index of a dimension;
    `roots[label]` is the channel that it belongs to.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> read = groups.reads[-1]  # to_rgb reads what the last block gives
        >>> read.node.name, read.dim, len(read.ids)
        ('to_rgb', 1, 4)
    """

    groups: tuple[Group, ...]
    _flow: Flow = field(repr=False)
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

    @property
    def program(self) -> Program:
        """The program that was analysed."""
        return self._flow.program

    @property
    def axes(self) -> Mapping[str, tuple[Axis | None, ...]]:
        """The labels of every tensor that was met: one axis a dimension, by the first path of each.

        None stands for a dimension that has no channels.
        """
        return MappingProxyType(self._flow.axes)

    @property
    def refused(self) -> Mapping[str, str]:
        """Why some modules are not followed, by their paths."""
        return MappingProxyType(self._flow.refused)

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Where channels are consumed: each dimension of each operand once, in graph order."""
        return tuple({(r.node, r.operand, r.dim): r for r in self._flow.reads}.values())

    @cached_property
    def statistics(self) -> tuple[Statistic, ...]:
        """Where a norm, softmax or maximum looks at channels, which makes removals approximate."""
        return tuple(self._flow.statistics)

    @property
    def unions(self) -> tuple[tuple[Ids, Ids], ...]:
        """The labels that the analysis united, in pairs; empty if it was not asked to keep them."""
        return tuple(self._flow.labels.unions or ())

    @property
    def every_axis(self) -> tuple[Axis, ...]:
        """The labelled dimensions in the order of their labels, those of inputs and nodes too."""
        return tuple(self._flow.labels.axes)

    @property
    def constants(self) -> Constants:
        """The nodes that the graph computes from the program's own tensors alone."""
        return self._flow.constants

    def axes_of(self, path: str) -> tuple[Axis | None, ...]:
        """Returns the axes of a tensor by any of its paths; all None where it was not met.

        Example:
            >>> import gfx
            >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
            >>> [axis and axis.size for axis in groups.axes_of("project.conv.weight")]
            [100, 32, None, None]
        """
        value = self.program.tensor(path)
        return self._flow.axes.get(self.path_of(value) or path, (None,) * value.ndim)

    def path_of(self, tensor: Tensor) -> str | None:
        """Returns the path in `axes` of a parameter or buffer; None if it was not met."""
        return self._flow.paths.get(id(tensor))

    def role(self, tensor: str, dim: int) -> str:
        """Returns whether a dimension of a tensor writes channels ("out") or reads them ("in").

        "" where neither is known, as of the scale of a norm. `tensor` is a path in `axes`.
        """
        return self._flow.roles.get((tensor, dim), "")

    def shared(self, tensor: str, dim: int) -> int:
        """Returns how many channels of its layer one index of a dimension is.

        More than 1 in the weight of a grouped convolution: all its groups share the index.
        """
        return self._flow.shared.get((tensor, dim), 1)

    def value_of(self, node: fx.Node) -> Any:
        """Returns a node's value as the analysis sees it: a `Labeled` for each tensor in it.

        What is no tensor, such as a size, is itself; None for a node that was not analysed.
        """
        return self._flow.values.get(node)

    def labels_of(self, node: fx.Node, dim: int) -> Ids | None:
        """Returns a label for each index of a dimension of a node's tensor; None if it has none.

        Example:
            >>> import gfx
            >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
            >>> project = next(n for n in groups.program.nodes() if n.name == "project_conv")
            >>> labels = groups.labels_of(project, 1)
            >>> bool((groups.roots[labels] == groups["project.conv"].roots).all())
            True
        """
        value = self.value_of(node)
        if not isinstance(value, Labeled):
            return None
        dim %= value.ndim
        for labels in value.fields:
            if dim in self._flow.over(labels):
                rows = core(labels).movedim(dim, 0).reshape(value.shape[dim], -1)
                return rows[:, 0].numpy()
        return None

    def regroups(self, node: fx.Node) -> bool:
        """Whether a GroupNorm keeps all its groups: each loses as many channels."""
        return node in self._flow.regrouped

    def averages(self, node: fx.Node) -> bool:
        """Whether a node takes a mean over channels that counts those that are gone as zeros."""
        return node in self._flow.means

    def mac_sizes(self, node: fx.Node) -> tuple[Ids, ...]:
        """Returns the labels of each dimension whose size a node's MACs are proportional to."""
        return tuple(self._flow.factors.get(node, ()))

    def kept(self, removed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Returns for each label whether it stays, given for each class whether it is removed."""
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
            together = f", {group.takes[0]} at a time" if group.takes[0] > 1 else ""
            lines.append(f"{group.name}: {group.width} channels{together}, {state}")
        return "\n".join(lines)
