"""Holds what the nets of a step made of a batch, and cuts it to the examples that count.

1. A filter sees all examples, without gradients.
2. Where none counts, the first stands for them with a share of 0: all processes take the same step.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gfx.errors import InputError
from gfx.io.guards import calling
from gfx.train.filters import Filter
from gfx.train.loop.teacher import TeacherValues
from gfx.train.tasks import Batch
from gfx.train.terms.term import Features, StepValues

__all__ = ["StepOutputs"]

Scores = Callable[[Batch, Tensor], Any]


@dataclass(frozen=True)
class StepOutputs:
    """What a generator and its teachers made of a batch.

    `instead` stands for the truth and for the teachers' images; `counted` is the share of the
    examples of the step that these are.
    """

    batch: Batch
    image: Tensor
    features: Features
    instead: Tensor | None
    teachers: Callable[[], tuple[TeacherValues, ...]]
    counted: float = 1.0

    def counting(self, chosen: Filter, values: StepValues, scores: Scores) -> "StepOutputs":
        """Returns the part that a filter lets count; `scores` are the discriminator's.

        Raises: InputError if the filter does not say which of the examples count.
        """
        with torch.no_grad():  # rule 1
            mask = _asked(chosen, values, len(self.batch))
        if mask is None:
            return self
        rows = mask.nonzero().flatten().to(self.image.device)
        share = len(rows) / len(self.batch)
        if not len(rows):  # rule 2
            rows = rows.new_zeros(1)
        some = torch.zeros(len(self.batch), dtype=torch.bool, device=rows.device)
        some[rows] = True
        batch = self.batch.where(some)
        return replace(
            self,
            batch=batch,
            image=self.image[rows],
            features={tap: value[rows] for tap, value in self.features.items()},
            instead=None if self.instead is None else self.instead[rows],
            teachers=partial(_shown, self.teachers, rows, partial(scores, batch)),
            counted=share,
        )


def _asked(chosen: Filter, values: StepValues, count: int) -> Tensor | None:
    """Asks a filter which of so many examples count."""
    where = f"data: {chosen.name}"
    with calling(where):
        found = chosen.counts(values)
    if found is None:
        return None
    if not isinstance(found, Tensor) or found.dtype != torch.bool or found.shape != (count,):
        said = type(found).__name__
        if isinstance(found, Tensor):
            said = f"{str(found.dtype).removeprefix('torch.')} of shape {tuple(found.shape)}"
        raise InputError(f"{where}: counts returns {said}; return ({count},) of bool, or None")
    return found


def _shown(
    teachers: Callable[[], tuple[TeacherValues, ...]], rows: Tensor, judge: Callable[[Tensor], Any]
) -> tuple[TeacherValues, ...]:
    """Returns some rows of what teachers show."""
    return tuple(
        TeacherValues(
            partial(_rows_of_image, each, rows),
            {tap: value[rows] for tap, value in each.features.items()},
            judge,
        )
        for each in teachers()
    )


def _rows_of_image(shown: TeacherValues, rows: Tensor) -> Tensor:
    return shown.image[rows]
