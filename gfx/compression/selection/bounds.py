"""Bounds how many channels a group may keep."""

from dataclasses import dataclass

import numpy as np

from gfx.coupling.labels import Ids

__all__ = ["Bounds"]


@dataclass(frozen=True)
class Bounds:
    """Bounds how many channels of each group stay.

    1. At least `min_channels` stay, or all if there are no more.
    2. At most `max_ratio` of a group goes.
    3. The number is a multiple of `round_to`, rounded up, or the whole group.

    Example:
        >>> Bounds(round_to=8, max_ratio=0.5).least(np.array([64, 20, 5])).tolist()
        [32, 16, 5]
    """

    round_to: int = 1
    min_channels: int = 1
    max_ratio: float = 1.0

    def least(self, sizes: Ids) -> Ids:
        """Returns the fewest channels that groups of these sizes may keep."""
        share = np.ceil(sizes * (1 - self.max_ratio) - 1e-9).astype(np.int64)
        return self._stepped(np.maximum(share, max(1, self.min_channels)), sizes)

    def rounded(self, kept: Ids, sizes: Ids) -> Ids:
        """Returns the nearest allowed numbers of kept channels that are not below those given."""
        return self._stepped(np.maximum(kept, self.least(sizes)), sizes)

    def levels(self, size: int) -> Ids:
        """Lists every number of channels that a group of this size may keep, ascending."""
        least = int(self.least(np.array([size]))[0])
        return np.append(np.arange(least, size, self.round_to, dtype=np.int64), size)

    def __str__(self) -> str:
        parts = [f"round_to={self.round_to}"]
        parts += [f"min_channels={self.min_channels}"] if self.min_channels > 1 else []
        parts += [f"max_ratio={self.max_ratio}"] if self.max_ratio < 1 else []
        return ", ".join(parts)

    @property
    def looser(self) -> str:
        """What would let more go, as a part of a sentence."""
        parts = ["lower round_to"] if self.round_to > 1 else []
        parts += ["lower min_channels"] if self.min_channels > 1 else []
        parts += ["raise max_ratio"] if self.max_ratio < 1 else []
        return ", ".join([*parts, "free more layers"])

    def _stepped(self, kept: Ids, sizes: Ids) -> Ids:
        up = -(-kept // self.round_to) * self.round_to
        return np.asarray(np.minimum(up, sizes), dtype=np.int64)
