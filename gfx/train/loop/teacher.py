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

from gfx.train.loop.quick_norms import quicken
from gfx.train.loop.tapped_run import TappedRun
from gfx.train.tasks import Batch, Task
from gfx.train.terms.term import Features

__all__ = ["Teacher", "TeacherValues"]

Row = tuple[Tensor | None, Features]  # image and features


@dataclass(frozen=True)
class TeacherValues:
    """The image and the tapped features of a teacher for one batch."""

    made: Tensor | Callable[[], Tensor]  # the image, or what makes it when it is asked for
    features: Features
    judge: Callable[[Tensor], Any]  # by the student's discriminator

    @property
    def image(self) -> Tensor:
        """The image."""
        return self.made if isinstance(self.made, Tensor) else self.made()

    @property
    def scores(self) -> Any:
        """What the student's discriminator says of the image; no gradient."""
        with torch.no_grad():
            return self.judge(self.image)


class Teacher:
    """A frozen teacher.

    With `taps` its features are shown; without `image`, the image is made only when it is asked
    for. `keep` bounds what is kept of examples that come again, in bytes; 0 keeps nothing, and
    shows whole batches.
    """

    def __init__(
        self, net: nn.Module, task: Task, *, taps: bool, image: bool = True, keep: int = 0
    ) -> None:
        quicken(net)
        net.eval().requires_grad_(False)
        self.net, self.task, self.keep = net, task, keep
        self._run = TappedRun(net, task, taps=taps, image=image)
        self._images = TappedRun(net, task)
        self._kept: OrderedDict[str, Row] = OrderedDict()
        self._bytes = 0

    @torch.no_grad()
    def show(self, batch: Batch) -> tuple[Tensor | Callable[[], Tensor], Features]:
        """Returns the image, or what makes it, and the features for a batch."""
        image, features = self._shown(batch)
        if image is not None:
            return image, features
        return lambda: self._image(batch), features

    @torch.no_grad()
    def _image(self, batch: Batch) -> Tensor:
        image, _ = self._images(batch)
        assert image is not None
        return image

    def _shown(self, batch: Batch) -> Row:
        if not self.keep or not all(batch.input_keys):
            return self._run(batch)
        rows = [self._row(key, number, batch) for number, key in enumerate(batch.input_keys)]
        images = [row[0] for row in rows if row[0] is not None]
        image = torch.cat(images) if images else None
        return image, {tap: torch.cat([row[1][tap] for row in rows]) for tap in rows[0][1]}

    def _row(self, key: str, number: int, batch: Batch) -> Row:
        """Returns the values for one example (rules 2 and 3)."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        row = self._run(batch.rows(slice(number, number + 1)))
        size = _size(row)
        if size <= self.keep:
            self._kept[key] = row
            self._bytes += size
        while self._bytes > self.keep:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= _size(oldest)
        return row


def _size(row: Row) -> int:
    held = [*row[1].values(), *([] if row[0] is None else [row[0]])]
    return sum(t.numel() * t.element_size() for t in held)
