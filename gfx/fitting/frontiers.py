"""Many batches on their way through one program, within a limit of memory.

What is on its way is held while there is room. The batches for which there is none are read and
run again from the start each time somebody looks at them.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any

from torch import fx

from gfx.fitting.frontier import Frontier, Steps

__all__ = ["Frontiers"]

Source = Callable[[], Iterator[tuple[int, tuple[Any, ...]]]]  # numbered batches, read anew


class Frontiers:
    """Moves every batch of a source through a program."""

    def __init__(self, steps: Steps, source: Source, memory: float, seed: int) -> None:
        self.steps = steps
        self.source = source
        self.memory = memory  # bytes
        self.seed = seed
        self.held: dict[int, Frontier] = {}
        self.sizes: dict[int, int] = {}
        self.whole = False  # whether every batch is held

    def at(self, place: int, keep: Collection[fx.Node] = ()) -> Iterator[Frontier]:
        """Yields every batch, in order, with all nodes before a place run."""
        read = self._held() if self.whole else self._read()
        self.whole = True
        for number, frontier in read:
            frontier.advance(place, keep)
            frontier.forget([node for node in frontier.kept if node not in keep])
            yield frontier
            self._hold(number, frontier)

    def _held(self) -> Iterator[tuple[int, Frontier]]:
        yield from sorted(self.held.items())

    def _read(self) -> Iterator[tuple[int, Frontier]]:
        for number, inputs in self.source():
            held = self.held.get(number)
            yield number, held or Frontier(self.steps, inputs, f"{self.seed}/{number}")

    def _hold(self, number: int, frontier: Frontier) -> None:
        """Keeps a batch where it is, if there is room."""
        self.sizes[number] = frontier.bytes()
        if sum(self.sizes.values()) <= self.memory:
            self.held[number] = frontier
            return
        self.whole = False
        self.sizes.pop(number)
        self.held.pop(number, None)
