"""Checks that a task's examples are what a generator takes and makes, before training."""

import random

import torch

from gfx.errors import InputError
from gfx.train.tasks.generator_needs import GeneratorNeeds
from gfx.train.tasks.task import Batch, Task, shape_of

__all__ = ["check_fits"]


def check_fits(task: Task, needs: GeneratorNeeds) -> None:
    """Compares the inputs and real images of the first example with a generator's.

    Sizes of images may differ, channels may not. A task with a `call` of its own is not compared.

    Raises: InputError naming both shapes.
    """
    batch = Batch.of([task.example(0, random.Random(0))])
    if task.call is not None:
        return
    given = task.inputs(batch)
    if len(given) != len(needs.shapes):
        raise InputError(
            f"the task {task.name} gives the generator {len(given)} inputs "
            f"({', '.join(shape_of(x) for x in given)}), and it takes {len(needs.shapes)} "
            f"({', '.join(needs.shapes)}); take another task, or give call=lambda g, batch: …"
        )
    for value, wanted, dtype in zip(given, needs.shapes, needs.dtypes, strict=True):
        shape = [int(length) for length in wanted.split("x") if length.isdigit()]
        alike = value.ndim == len(shape) and value.shape[1:2] == tuple(shape[1:2])
        if not alike:
            raise InputError(
                f"the task {task.name} gives the generator {shape_of(value)}, and it takes "
                f"{wanted}: the channels differ; give images with as many"
            )
        if value.is_floating_point() != dtype.is_floating_point or value.itemsize != dtype.itemsize:
            raise InputError(
                f"the task {task.name} gives the generator {_kind(value.dtype)} of "
                f"{shape_of(value)}, and it takes {_kind(dtype)}; convert the "
                f"data, as with .to(torch.{_kind(dtype)})"
            )
    if needs.made is None or task.name == "self":
        return
    real = task.real(batch.where(batch.labelled) if batch.labelled is not None else batch)
    if len(real) and real.ndim == 4 and real.shape[1] != needs.made[0]:
        raise InputError(
            f"real images of the task {task.name} have {real.shape[1]} channels, and the generator "
            f"makes {needs.made[0]}; give images with as many"
        )


def _kind(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
