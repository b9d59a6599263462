"""Opens what a system runs on: the generator, its data as a task, its discriminators."""

from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from gfx.frontend.driver import traced
from gfx.io.archive import ModelPath
from gfx.pipeline import apply
from gfx.progress import stage
from gfx.train.runs.critic_source import CriticSource, critic_source
from gfx.train.tasks import Task, open_task

__all__ = ["OpenedRun", "open_run"]


@dataclass(frozen=True)
class OpenedRun:
    """The generator as a program, the task, and where discriminators come from."""

    given: fx.GraphModule
    task: Task
    critics: CriticSource


def open_run(
    model: nn.Module,
    data: Any,
    discriminator: nn.Module | ModelPath | None,
    example_inputs: Any,
    **how: Any,
) -> OpenedRun:
    """Traces a generator, and opens its data; `how` is what `open_task` takes.

    Raises: GfxError of the kind of what does not fit.

    Example:
        >>> import gfx
        >>> open_run(gfx.zoo.build("dcgan", ngf=4), None, None, None).task.name
        'self'
    """
    stage("tracing")
    given = apply({"passes": []}, model, example_inputs)
    program = traced(given, None, check=False)
    stage("opening the data")
    task = open_task(data, program, model=model, **how)
    return OpenedRun(given, task, critic_source(discriminator, task))
