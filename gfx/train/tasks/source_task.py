"""A task whose examples are the rows of one source."""

import copy
import random
from collections.abc import Sequence
from typing import Any, Self

from gfx.io.data.value_range import Range
from gfx.train.tasks.example_source import ExampleSource
from gfx.train.tasks.task import Task
from gfx.train.tasks.views import Views

__all__ = ["RANGE", "SourceTask"]

RANGE: Range = (-1.0, 1.0)


class SourceTask(Task):
    """A task whose examples are the rows of one source."""

    def __init__(self, source: ExampleSource, views: Views, range: Range = RANGE) -> None:
        self.source, self.views, self.range = source, views, range
        self.draws = source.draws

    @property
    def length(self) -> int:
        """The number of rows."""
        return len(self.source)

    @property
    def variants(self) -> int | None:
        """In how many forms an example comes."""
        return None if self.draws else self.views.variants

    def part(self, indices: Sequence[int]) -> Self:
        """Returns the task with some of the rows."""
        made = copy.copy(self)
        made.source = self.source.part(indices)
        return made

    def for_judging(self) -> Self:
        """Returns the task without augmentation."""
        made = copy.copy(self)
        made.views = self.views.for_judging()
        return made

    def keep_decoded(self, most: int) -> None:
        """Keeps decoded pictures, up to so many bytes in all."""
        self.source.keep_decoded(most)

    def row(self, index: int, dice: random.Random) -> tuple[Any, ...]:
        """Reads a row; its own random numbers, if it draws any, come from the dice."""
        return self.source.read(index, dice.getrandbits(32) if self.draws else 0)

    def key(self, index: int, view: str) -> str:
        """Returns the key of a row in a view."""
        key = self.source.key(index)
        return key and key + view
