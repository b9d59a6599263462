"""Bounds how many channels a group may keep."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from gfx.coupling import Group
from gfx.coupling.labels import Ids

__all__ = ["MIN_CHANNELS", "Bounds", "GroupBounds"]

MIN_CHANNELS = 4  # a group with no more may be an image (grey, RGB, RGBA) or a latent of one


@dataclass(frozen=True)
class Bounds:
    """Bounds how many channels of each group stay, in channels of the layers.

    1. Every layer that writes or reads a group keeps at least `min_channels` of its channels, or
       all if it has no more. By default that is 4: a group of 3 or 4 may be an image.
    2. At most `max_ratio` of a group goes.
    3. What a layer keeps of a group is a multiple of `round_to`, rounded up, or the whole group.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> Bounds(round_to=8, max_ratio=0.75).of(groups.free).least.tolist()
        [8, 8, 8, 4]
    """

    round_to: int = 1
    min_channels: int = MIN_CHANNELS
    max_ratio: float = 1.0

    def of(self, among: Sequence[Group]) -> "GroupBounds":
        """Returns the bounds of some groups."""
        return GroupBounds(self, tuple(among))

    def __str__(self) -> str:
        parts = [f"round_to={self.round_to}"]
        parts += [f"min_channels={self.min_channels}"] if self.min_channels > 1 else []
        parts += [f"max_ratio={self.max_ratio}"] if self.max_ratio < 1 else []
        return ", ".join(parts)

    def looser(self) -> dict[str, "Bounds"]:
        """Lists bounds that may let more go, by what makes them: one field each, then all.

        Example:
            >>> Bounds(round_to=8).looser()["lower round_to"]
            Bounds(round_to=1, min_channels=4, max_ratio=1.0)
            >>> list(Bounds(round_to=8).looser())
            ['lower round_to', 'lower min_channels', 'lower round_to and lower min_channels']
        """
        free: dict[str, dict[str, Any]] = {
            "lower round_to": {"round_to": 1},
            "lower min_channels": {"min_channels": 1},
            "raise max_ratio": {"max_ratio": 1.0},
        }
        found: dict[str, Bounds] = {}
        whole = self
        for words, values in free.items():
            if (other := replace(self, **values)) != self:
                found[words] = other
                whole = replace(whole, **values)
        return found if len(found) < 2 else {**found, " and ".join(found): whole}


@dataclass(frozen=True)
class GroupBounds:
    """Bounds what some groups keep, in the steps in which each may be removed.

    A group loses whole steps: all that goes together is one. Where a step is several channels of
    a layer (all that a GroupNorm must lose alike, a head of attention), so much fewer steps are as
    many channels.
    """

    bounds: Bounds
    among: tuple[Group, ...]

    @cached_property
    def sizes(self) -> Ids:
        """The steps that each group has."""
        return np.array([group.size for group in self.among], dtype=np.int64)

    @cached_property
    def strides(self) -> Ids:
        """How many steps of each group go at a time, so that every layer stays a multiple."""
        most = self.bounds.round_to
        found = [np.lcm.reduce([most // np.gcd(most, n) for n in g.takes]) for g in self.among]
        return np.array(found, dtype=np.int64)

    @cached_property
    def least(self) -> Ids:
        """The fewest steps that each group may keep."""
        share = np.ceil(self.sizes * (1 - self.bounds.max_ratio) - 1e-9).astype(np.int64)
        fewest = [-(-self.bounds.min_channels // min(group.takes)) for group in self.among]
        return self._stepped(np.maximum(share, np.maximum(fewest, 1).astype(np.int64)))

    def rounded(self, kept: Ids) -> Ids:
        """Returns the nearest allowed numbers of kept steps that are not below those given.

        Shapes: (..., groups).
        """
        return self._stepped(np.maximum(kept, self.least))

    def levels(self) -> list[Ids]:
        """Lists for each group every number of steps that it may keep, ascending."""
        rows = zip(self.least, self.sizes, self.strides, strict=True)
        return [np.append(np.arange(a, n, by, dtype=np.int64), n) for a, n, by in rows]

    def whole(self, group: Group) -> str:
        """Says why nothing of a group may go; "" if something may."""
        if Bounds.of(self.bounds, [group]).least[0] < group.size:
            return ""
        few = min(group.takes) * group.size
        has = f"it has {few} channels" + (" in its narrowest layer" if few < group.width else "")
        if few <= self.bounds.min_channels:
            return (
                f"{has}, and min_channels={self.bounds.min_channels} keeps as many, as they may "
                f"be those of an image; min_channels: 1 lets them go"
            )
        return f"{has}, and {self.bounds} lets none of them go"

    def _stepped(self, kept: Ids) -> Ids:
        up = -(-kept // self.strides) * self.strides
        return np.asarray(np.minimum(up, self.sizes), dtype=np.int64)
