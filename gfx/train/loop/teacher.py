"""Runs frozen teachers: no gradients, evaluation mode, and what comes again is computed once.

1. A teacher is left as it is, to the last bit.
2. Where examples come again, each is shown to the teacher alone, so that its values are a function
   of the example, and not of the batch that it came in or of what is still kept: a run that was
   killed goes on with the same values.
3. What is kept is bounded; the oldest goes first, and is computed anew when it comes again.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gfx.train.tasks import Batch, Task
from gfx.train.terms.term import Features

__all__ = ["Teacher", "TeacherValues"]


@dataclass(frozen=True)
class TeacherValues:
    """The image and the tapped features of a teacher for one batch."""

    image: Tensor
    features: Features
    judge: Callable[[Tensor], Any]  # by the student's discriminator

    @property
    def scores(self) -> Any:
        """What the student's discriminator says of the image; no gradient."""
        with torch.no_grad():
            return self.judge(self.image)


class Teacher:
    """A frozen teacher.

    `net` returns its output, or with `tapped` (output, features). `keep` bounds what is kept of
    examples that come again, in bytes; 0 keeps nothing, and shows whole batches.
    """

    def __init__(self, net: nn.Module, task: Task, *, tapped: bool, keep: int = 0) -> None:
        self.net, self.task, self.tapped, self.keep = net, task, tapped, keep
        self._kept: OrderedDict[str, tuple[Tensor, Features]] = OrderedDict()
        self._bytes = 0

    @torch.no_grad()
    def show(self, batch: Batch) -> tuple[Tensor, Features]:
        """Returns the image and features for a batch."""
        if not self.keep or not all(batch.input_keys):
            return self._run(batch)
        rows = [self._row(key, number, batch) for number, key in enumerate(batch.input_keys)]
        image = torch.cat([row[0] for row in rows])
        return image, {tap: torch.cat([row[1][tap] for row in rows]) for tap in rows[0][1]}

    def _row(self, key: str, number: int, batch: Batch) -> tuple[Tensor, Features]:
        """Returns the values for one example (rules 2 and 3)."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        row = self._run(batch.rows(slice(number, number + 1)))
        size = sum(t.numel() * t.element_size() for t in (row[0], *row[1].values()))
        if size <= self.keep:
            self._kept[key] = row
            self._bytes += size
        while self._bytes > self.keep:
            _, (image, features) = self._kept.popitem(last=False)
            self._bytes -= sum(t.numel() * t.element_size() for t in (image, *features.values()))
        return row

    def _run(self, batch: Batch) -> tuple[Tensor, Features]:
        output = self.task.generate(self.net, batch)
        features: Features = {}
        if self.tapped:
            output, features = output
        return self.task.image(output), features
