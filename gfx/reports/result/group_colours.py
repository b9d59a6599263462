"""Numbers the channel groups for a page, with colours and widths before and after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gfx.coupling import Group, Groups
from gfx.reports.result.layer_table import Pair

__all__ = ["Family", "families_of", "family_of"]

_TURN = 137.508  # degrees: hues that follow each other lie far apart


@dataclass(frozen=True)
class Family:
    """One channel group of the drawing."""

    number: int
    name: str
    now: int  # channels
    was: int | None  # None: not known
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    pinned: str | None
    approximate: str | None
    through: tuple[str, ...] = ()  # layers that pass it on channel by channel: depthwise, norms

    @property
    def free(self) -> bool:
        """Whether its channels may be removed."""
        return self.pinned is None and self.now > 1

    @property
    def hue(self) -> float:
        """Its colour in degrees; a pinned group has none and is grey."""
        return round(self.number * _TURN % 360, 1)


def families_of(groups: Groups, pairs: Sequence[Pair]) -> list[Family]:
    """Numbers the groups that layers write or pass on, in the order of the program."""
    outputs = {pair.now.path: pair for pair in reversed(pairs)}
    order = {path: i for i, path in enumerate(dict.fromkeys(pair.now.path for pair in pairs))}
    places = [(min(_places(group, order)), group) for group in groups if _places(group, order)]
    places.sort(key=lambda place: place[0])
    return [
        Family(
            number,
            group.name,
            group.width,
            _was(groups, group, outputs),
            group.producers,
            group.consumers,
            group.pinned,
            group.approximate,
            _through(group),
        )
        for number, (_, group) in enumerate(places)
    ]


def family_of(families: Sequence[Family], path: str) -> Family | None:
    """Finds the group that a layer writes or passes on; of several, the widest."""
    own = [family for family in families if path in family.writers]
    own = own or [family for family in families if path in family.through]
    return max(own, key=lambda family: family.now, default=None)


def _places(group: Group, order: Mapping[str, int]) -> list[int]:
    """Lists which layers write the channels of a group or pass them on."""
    return [order[path] for path in (*group.producers, *_through(group)) if path in order]


def _through(group: Group) -> tuple[str, ...]:
    owners = dict.fromkeys(m.tensor.rpartition(".")[0] for m in group.members)
    ends = {*group.producers, *group.consumers}
    return tuple(path for path in owners if path and path not in ends)


def _was(groups: Groups, group: Group, outputs: dict[str, Pair]) -> int | None:
    """Counts the channels before, where a layer that writes them determines it.

    It does if all its outputs are of this group, or if its width is unchanged.
    """
    for path in group.producers:
        pair = outputs.get(path)
        if pair is None or pair.was is None:
            continue
        if pair.was.outputs == pair.now.outputs:
            return group.width
        if _written(groups, group, path) == pair.now.outputs:
            was, rest = divmod(pair.was.outputs * group.width, pair.now.outputs)
            return None if rest else was
    return None


def _written(groups: Groups, group: Group, path: str) -> int:
    """Counts the outputs of a layer that are of a group."""
    own = [m for m in group.members if m.tensor.rpartition(".")[0] == path]
    out = [m for m in own if groups.role(m.tensor, m.dim) == "out"]
    return max((len(m.index) * groups.shared(m.tensor, m.dim) for m in out), default=0)
