"""Filters by whether an example has its target: `data: labelled`, `data: unlabelled`."""

from dataclasses import dataclass
from typing import ClassVar

from gfx.errors import InputError
from gfx.train.filters.example_filter import Filter
from gfx.train.tasks import Task

__all__ = ["Labelled", "Unlabelled"]


@dataclass(frozen=True)
class Labelled(Filter):
    """The examples that have their targets."""

    name: ClassVar[str] = "labelled"

    def examples(self, task: Task) -> Task:
        """Returns the task with these.

        Raises: InputError if there are none.

        Example:
            >>> import torch
            >>> from gfx.train import tasks
            >>> task = tasks.paired(torch.zeros(8, 3, 4, 4), torch.zeros(8, 3, 4, 4))
            >>> Labelled().examples(task.with_labels(0.25, seed=0)).length
            2
        """
        found = task.only(labelled=True)
        if found is None:
            raise InputError(
                "data: labelled: no example has its target; give pairs, or `data: unlabelled`"
            )
        return found


@dataclass(frozen=True)
class Unlabelled(Filter):
    """The examples whose targets are not there, or not used."""

    name: ClassVar[str] = "unlabelled"

    def examples(self, task: Task) -> Task:
        """Returns the task with these.

        Raises: InputError if there are none.
        """
        found = task.only(labelled=False)
        if found is None:
            raise InputError(
                "data: unlabelled: every example has its target; give a share of labels, as "
                "labels=0.25, in a recipe {labelled: 0.25} under `data`, or inputs without any: "
                "gfx.train.tasks.paired(x, y, unlabelled=...)"
            )
        return found
