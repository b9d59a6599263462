"""Changes the order of the channels of groups, wherever they are written and read."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from gfx.coupling.channel_owners import ChannelOwners
from gfx.coupling.channel_slots import numbered, slots
from gfx.coupling.groups import Groups
from gfx.coupling.labelled_tensor import Labeled, rows_of, varying
from gfx.coupling.labels import Ids
from gfx.ir.modules import ChannelMask, is_index
from gfx.ir.node_origin import narrow
from gfx.ir.program import Program

__all__ = ["reorder"]


def reorder(program: Program, groups: Groups, orders: Mapping[str, Sequence[int]]) -> None:
    """Puts channel `orders[name][i]` of each of these groups in the i-th place, in place.

    Only the tensors change: each keeps its shape, and the graph is what it was. Nodes note which
    channels of what they stand for are where (`gfx.ir.node_origin`).

    Args:
        program: the program that `groups` was found on.
        groups: its groups, which must be `movable`.
        orders: by name of a group, all its channels in their new order.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> first = program.tensor("up.2.conv.weight")[0, 1].clone()
        >>> reorder(program, gfx.channels(program), {"up.2.conv": [1, 0, 2, 3]})
        >>> torch.equal(program.tensor("up.2.conv.weight")[0, 0], first)
        True
    """
    _note(program, groups, orders)
    moves: dict[tuple[str, int], Ids] = {}
    for name, order in orders.items():
        group = groups[name]
        for member in group.members:
            size = program.tensor(member.tensor).shape[member.dim]
            move = moves.setdefault((member.tensor, member.dim), np.arange(size))
            places = slots(member, group.size)
            move[places] = places[np.asarray(order)]
    for (path, dim), move in moves.items():
        if not _is_index(program, path):
            value = program.tensor(path)
            with torch.no_grad():
                value.copy_(value.index_select(dim, torch.from_numpy(move).to(value.device)))


def _note(program: Program, groups: Groups, orders: Mapping[str, Sequence[int]]) -> None:
    """Records on each node where its channels come from."""
    among = [groups[name] for name in orders]
    owners, source = ChannelOwners(groups, among), np.arange(len(groups.roots))
    slot = numbered(groups)
    for i, order in enumerate(orders.values()):
        labels = np.flatnonzero(owners.group == i)
        table = labels[np.lexsort((owners.channel[labels], slot[labels]))].reshape(-1, len(order))
        source[table] = table[:, np.asarray(order)]  # a row for each slot
    for node in program.nodes():
        value = groups.value_of(node)
        if not isinstance(value, Labeled):
            continue
        kept = {}
        for dim in range(value.ndim):
            # several where they were flattened into one dimension
            along = [rows_of(f, dim)[:, 0] for f in value.fields if dim in varying(f)]
            labels = np.array(along)
            if along and not np.array_equal(source[labels], labels):
                kept[dim] = _positions(labels, source[labels])
        narrow(node, kept)


def _positions(labels: Ids, wanted: Ids) -> list[int]:
    """Finds for each wanted column its position; the first of it for its first, and so on."""
    found = np.empty(labels.shape[1], dtype=np.int64)
    found[np.lexsort(wanted)] = np.lexsort(labels)
    return [int(place) for place in found]


def _is_index(program: Program, path: str) -> bool:
    """Whether a tensor says which channel is where: places stay what they are."""
    owner, _, name = path.rpartition(".")
    module = program.module.get_submodule(owner)
    return isinstance(module, ChannelMask) and is_index(name)
