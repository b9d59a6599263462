"""Where masks go: onto whatever reads a group's channels, or onto what one layer writes.

Before   y = conv2(relu(conv1(x)))
After    y = conv2(masks.conv1(relu(conv1(x)), 1))

A removal puts zeros where channels are read (gfx/coupling/removal/masked_reference.py), and so does
a mask there: a zero in it equals the removal of the channel, whatever lies between the layer and
the reader.
"""

import re
from bisect import bisect
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from gfx.coupling import Group, Groups
from gfx.coupling.call import Read
from gfx.coupling.labelled_tensor import Labeled
from gfx.coupling.labels import Ids
from gfx.coupling.rules.gfx_modules import period
from gfx.ir.modules import ChannelMask, is_index
from gfx.ir.node_origin import stands_for
from gfx.ir.ops import is_inplace, op_name
from gfx.ir.program import Program

__all__ = ["MaskPlace", "Placement", "mount", "refusal"]


@dataclass(frozen=True)
class MaskPlace:
    """Positions along one dimension of a node's value, each with its channel.

    Example:
        >>> x = fx.Graph().placeholder("x")
        >>> MaskPlace(x, 1, np.array([0, 1, 2])).index(3) is None  # the channels in order
        True
        >>> MaskPlace(x, 1, np.array([0, 0, -1])).index(1)
        tensor([ 0,  0, -1])
    """

    node: fx.Node
    dim: int
    channels: Ids  # by position, repeated: number of the channel in its group, -1: of another
    reader: fx.Node | None = None  # who reads it here; None: everyone

    def index(self, size: int) -> Tensor | None:
        """Returns the channel at each position, or None where they are all there in order."""
        if np.array_equal(self.channels, np.arange(size)):
            return None
        return torch.from_numpy(self.channels.astype(np.int64))


@dataclass
class Placement:
    """Puts masks into a program whose groups are known; those found stay true of the others.

    Example:
        >>> import gfx
        >>> program = gfx.trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3)))
        >>> groups = gfx.channels(program)
        >>> placement = Placement(groups)
        >>> placement.put(ChannelMask(8), "0", placement.reads(groups["0"]))
        'masks.0'
        >>> print(placement.program.text().splitlines()[3])
          masks_0 = ChannelMask[masks.0](_0, 1)
    """

    groups: Groups
    _now: dict[tuple[fx.Node, fx.Node], fx.Node] = field(default_factory=dict)  # what is read
    _over: dict[fx.Node, fx.Node] = field(default_factory=dict)  # what everyone reads instead
    _calls: dict[Any, tuple[fx.Node, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        nodes = list(self.program.graph.nodes)
        self._order = {node: i for i, node in enumerate(nodes)}
        self._writes = [i for i, node in enumerate(nodes) if _writes(self.program, node)]

    @property
    def program(self) -> Program:
        """The program that masks are put into."""
        return self.groups.program

    def numbers(self, group: Group, ids: Ids) -> Ids:
        """Returns for each label the number of its channel in a group, -1 if it is in another."""
        numbers = np.full(len(self.groups.roots), -1)
        numbers[group.roots] = np.arange(group.size)
        return np.asarray(numbers[self.groups.roots[ids]])

    def reads(self, group: Group) -> list[MaskPlace]:
        """Lists where a group's channels are read, in graph order."""
        found: dict[Any, MaskPlace] = {}
        for read in self.groups.reads:
            one = period(self.groups.roots[read.ids])  # of a batch that is folded in
            channels = self.numbers(group, read.ids[:one])
            if (channels >= 0).any() and not self._masked_with_other(read):
                dim = read.dim % read.operand.meta["val"].ndim
                place = MaskPlace(read.operand, dim, channels, read.node)
                found.setdefault((read.node, read.operand, dim), place)
        return list(found.values())

    def _masked_with_other(self, read: Read) -> bool:
        """Whether a read is of a weight whose other operand is read and masked alike."""
        if read.operand.op != "get_attr" or not op_name(read.node).startswith(("conv", "linear")):
            return False
        return any(
            other.node is read.node
            and other.operand.op != "get_attr"
            and set(self.groups.roots[other.ids]) >= set(self.groups.roots[read.ids])
            for other in self.groups.reads
        )

    def along(self, node: fx.Node, group: Group) -> MaskPlace | None:
        """Finds the dimension of a node's value that a group's channels lie along."""
        value = self.groups.value_of(node)
        assert isinstance(value, Labeled)
        for dim in range(value.ndim):
            ids = self.groups.labels_of(node, dim)
            if ids is not None and ((channels := self.numbers(group, ids)) >= 0).any():
                return MaskPlace(node, dim, channels)
        return None

    def put(self, mask: ChannelMask, stem: str, places: list[MaskPlace]) -> str:
        """Puts a mask at some places, and returns its path."""
        first = places[0].node.meta["val"]
        dtype = first.dtype if first.is_floating_point() else torch.get_default_dtype()
        path = mount(self.program, mask.to(first.device, dtype), stem)
        for place in places:
            self._call(mask, path, place)
        return path

    def mark(self, module: str, path: str) -> None:
        """Lets everyone read a module, where it is first called, through another one."""
        nodes = self.program.graph.nodes
        node = next(n for n in nodes if n.op == "call_module" and n.target == module)
        node = self._last(node)
        with self.program.graph.inserting_after(node):
            marked = self.program.graph.call_module(path, (node,))
        stands_for(marked, node)
        self._put_over(marked, node)

    def _call(self, mask: ChannelMask, path: str, place: MaskPlace) -> None:
        """Makes a reader, or everyone, read the masked value; readers share a call if they can."""
        node = self._last(place.node)
        if place.reader is not None:
            node = self._now.get((place.reader, place.node), node)
        key = (path, node, place.dim, place.channels.tobytes())
        made = self._calls.get(key)
        if made is None or place.reader is None or self._written(made[1], place.reader):
            call = self._insert(mask, path, node, place)
            made = self._calls[key] = (call, self._order.get(place.reader or node, 0))
        call = made[0]
        if place.reader is None:
            self._put_over(call, node)
            return
        place.reader.replace_input_with(node, call)
        self._now[place.reader, place.node] = call

    def _last(self, node: fx.Node) -> fx.Node:
        """Follows what was put over a node."""
        while node in self._over:
            node = self._over[node]
        return node

    def _put_over(self, new: fx.Node, old: fx.Node) -> None:
        """Lets everyone read a new node instead."""
        old.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
        self._over[old] = new

    def _written(self, since: int, reader: fx.Node) -> bool:
        """Whether something may have been written in place between two readers."""
        until = self._order[reader]
        return bisect(self._writes, since) != bisect(self._writes, until)

    def _insert(self, mask: ChannelMask, path: str, node: fx.Node, place: MaskPlace) -> fx.Node:
        graph = self.program.graph
        index = place.index(mask.size)
        after = graph.inserting_after(node)
        with after if place.reader is None else graph.inserting_before(place.reader):
            args: tuple[Any, ...] = (node, place.dim)
            if index is None:
                call = graph.call_module(path, args)
            else:
                held = graph.get_attr(f"{path}.{_held(mask, index)}")
                stands_for(held, None)
                with graph.inserting_after(held):
                    call = graph.call_module(path, (*args, held))
        stands_for(call, node)
        return call


def refusal(groups: Groups, group: Group) -> str:
    """Says why no mask may narrow a group; "" if one may.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(nn.Sequential(nn.Conv2d(3, 8, 3))))
        >>> refusal(groups, groups["0"])
        "its channels are the model's output"
    """
    if group.pinned:
        return group.pinned
    if group.size == 1:
        return "it has a single channel"
    if group.approximate:
        return f"zeros would not equal a removal: {group.approximate}"
    for member in group.members:
        owner = member.tensor.rpartition(".")[0]
        if isinstance(groups.program.module.get_submodule(owner), ChannelMask):
            return f"it is masked already, by {owner}"
    return ""


def mount(program: Program, module: nn.Module, stem: str, root: str = "masks") -> str:
    """Adds a module under `masks.`, or another root, by a name that is still free.

    Example:
        >>> import gfx
        >>> program = gfx.trace(nn.Sequential(nn.Conv2d(3, 8, 3)))
        >>> [mount(program, nn.Identity(), "up.0.conv#2") for _ in range(2)]
        ['masks.up_0_conv_2', 'masks.up_0_conv_2_2']
    """
    top, empty = root, nn.Module()
    while type(getattr(program.module, top, empty)) is not nn.Module:
        top = f"{top}_"  # the model has something of its own under that name
    home = getattr(program.module, top, empty)
    stem = re.sub(r"\W", "_", stem)
    name, count = stem, 1
    while hasattr(home, name):
        count += 1
        name = f"{stem}_{count}"
    program.module.add_submodule(f"{top}.{name}", module)
    return f"{top}.{name}"


def _held(mask: ChannelMask, index: Tensor) -> str:
    """Gives a mask the buffer of an index, one for all places that have the same."""
    own = {name: buffer for name, buffer in mask.named_buffers() if is_index(name)}
    same = (name for name, buffer in own.items() if torch.equal(buffer.cpu(), index))
    return next(same, None) or mask.add_index(index)


def _writes(program: Program, node: fx.Node) -> bool:
    if node.op != "call_module":
        return is_inplace(node)
    return bool(getattr(program.submodule(node), "inplace", False))
