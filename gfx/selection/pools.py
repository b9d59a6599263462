"""Which groups are ranked together."""

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np

from gfx.coupling import Group, Groups
from gfx.coupling.labels import Ids

__all__ = ["Scope", "isomorphic", "pools"]

Scope = Literal["local", "global", "isomorphic", "knapsack"]


def pools(
    groups: Groups, among: Sequence[Group], scope: Scope, stages: Sequence[Hashable]
) -> list[Ids]:
    """Splits groups into pools; the channels of a pool are ranked against each other.

    - local: every group is a pool of its own.
    - global, knapsack: all groups of a stage are one pool.
    - isomorphic: groups of a stage that are built alike are one pool (Fang et al. 2024,
      arXiv:2407.04616: importances are comparable only between like structures).

    Returns: for each pool the numbers of its groups in `among`, in the order of their first group.
    """
    found: dict[Hashable, list[int]] = {}
    for i, (group, stage) in enumerate(zip(among, stages, strict=True)):
        like: Hashable = i if scope == "local" else None
        if scope == "isomorphic":
            like = isomorphic(groups, group)
        found.setdefault((stage, like), []).append(i)
    return [np.array(members, dtype=np.int64) for members in found.values()]


def isomorphic(groups: Groups, group: Group) -> Hashable:
    """Returns a key that is equal for groups that are built alike.

    Built alike means: as many channels, and the same set of tensors that a channel reaches into,
    compared by the kind of layer that owns the tensor, its name there, its shape, the dimension
    the channels are of, whether the layer writes or reads them, and how many positions each
    channel takes. Names of layers and where they stand do not count.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("resnet_9blocks", ngf=4)))
        >>> blocks = [group for group in groups if group.name.startswith("blocks.")]
        >>> len(blocks), len({isomorphic(groups, group) for group in blocks})
        (9, 1)
    """
    program, roles = groups.flow.program, groups.flow.roles
    members = []
    for m in group.members:
        owner, _, leaf = m.tensor.rpartition(".")
        # a tensor of the model itself is known by its shape alone
        kind = type(program.module.get_submodule(owner)).__name__ if owner else ""
        role = roles.get((m.tensor, m.dim), "")
        shape = tuple(program.tensor(m.tensor).shape)
        members.append((kind, leaf if owner else "", shape, m.dim, role, len(m.index)))
    return group.size, tuple(sorted(members))
