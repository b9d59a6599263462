"""Chooses the examples that the steps of one stage see, by the filter of its fit."""

from gfx.errors import InputError, prefixed
from gfx.io.guards import calling
from gfx.train.filters import Filter
from gfx.train.systems import SystemStage
from gfx.train.tasks import Task

__all__ = ["examples_of", "examples_said"]


def examples_of(stage: SystemStage, task: Task) -> Task:
    """Returns a task with the examples that a stage sees.

    Raises: InputError if there are none, or the filter returns no task.
    """
    chosen = None if stage.fit is None else stage.fit.data
    if not isinstance(chosen, Filter):
        return task
    where = f"data: {chosen.name}"
    with prefixed(f"stage {stage.name}"), calling(where):
        found = chosen.examples(task)
    if not isinstance(found, Task) or found.length < 1:
        raise InputError(
            f"stage {stage.name}: {where}: the filter leaves no examples of {task.length}; change "
            "its fields, or give `data: all`"
        )
    return found


def examples_said(stage: SystemStage, task: Task) -> str:
    """Names the examples that a stage sees, as what has something: "the task paired has".

    Example:
        >>> import torch
        >>> from gfx.train import tasks
        >>> examples_said(SystemStage("slim", ("fold_masks",)), tasks.inputs(torch.zeros(2, 3)))
        'the task self has'
    """
    chosen = None if stage.fit is None else stage.fit.data
    if isinstance(chosen, Filter):
        return f"the examples of `data: {chosen.name}` have"
    return f"the task {task.name} has"
