"""Some of the examples of a task."""

import random
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from gfx.train.tasks.task import Batch, Example, Task

__all__ = ["PartOfTask"]


class PartOfTask(Task):
    """Some of the examples of a task, in all else the same."""

    def __init__(self, whole: Task, indices: Sequence[int]) -> None:
        self.whole, self.indices = whole, list(indices)
        self.about = whole.about

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the task."""
        return self.whole.name

    @property
    def length(self) -> int:
        """The number of the examples."""
        return len(self.indices)

    @property
    def variants(self) -> int | None:
        """As of the whole."""
        return self.whole.variants

    def example(self, index: int, dice: random.Random) -> Example:
        """Makes one of the examples."""
        return self.whole.example(self.indices[index], dice)

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """As of the whole."""
        return self.whole.inputs(batch)

    def target(self, batch: Batch) -> Tensor | None:
        """As of the whole."""
        return self.whole.target(batch)

    def real(self, batch: Batch) -> Tensor:
        """As of the whole."""
        return self.whole.real(batch)

    def judged(self, batch: Batch, image: Tensor) -> tuple[Any, ...]:
        """As of the whole."""
        return self.whole.judged(batch, image)

    def image(self, output: Any) -> Tensor:
        """As of the whole."""
        return self.whole.image(output)

    def default_discriminator(self, real: Tensor, batch: Batch) -> str:
        """As of the whole."""
        return self.whole.default_discriminator(real, batch)
