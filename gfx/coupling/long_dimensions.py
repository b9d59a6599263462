"""Keeps what is longer than layers have channels, and has no labels for it.

A table's rows or a sound's samples are positions. Where channels meet them all the same, or a layer
computes with them, they are channels after all: the analysis runs again and gives them labels.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from gfx.coupling.labelled_tensor import Labeled

__all__ = ["LongDimensions"]


@dataclass
class LongDimensions:
    """Lists tensors and nodes that are long, and what is known of them."""

    labelled: frozenset[str] = frozenset()  # has labels all the same
    names: dict[str, str] = field(default_factory=dict)  # reason for having none → tensor or node
    weights: set[str] = field(default_factory=set)  # of layers: its dimensions are channels

    def note(self, name: str, size: int) -> str:
        """Notes what has no labels for its size, and returns the reason."""
        why = f"{name} has {size:,} entries there, more than layers have channels"
        self.names[why] = name
        return why

    def weight(self, value: Labeled) -> Labeled:
        """Notes that a layer computes with a tensor."""
        if value.why in self.names:
            self.weights.add(self.names[value.why])
        return value

    def only(self, *whys: str) -> str:
        """Picks the first reason that something is long; "" if none is one."""
        return next((why for why in whys if why in self.names), "")

    def first(self, *whys: str) -> str:
        """Picks one of several reasons, what is long before all others; "" if there is none.

        If it pins channels, the analysis runs again.
        """
        return self.only(*whys) or next(filter(None, whys), "")

    def met(self, reasons: Collection[str]) -> frozenset[str]:
        """Lists what needs labels, given the reasons why channels are pinned."""
        pinning = {name for why, name in self.names.items() if why in reasons}
        return frozenset(pinning | self.weights)
