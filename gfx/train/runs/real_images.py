"""Finds the real images of a batch, where a task has any."""

from torch import Tensor

from gfx.train.tasks import Batch, Task

__all__ = ["image_range", "real_images"]


def real_images(task: Task, batch: Batch) -> Tensor | None:
    """Returns real images; None of a task that has inputs only.

    Of examples whose labels are left out there are none.

    Example:
        >>> import torch
        >>> from gfx.train import tasks
        >>> task = tasks.inputs(torch.zeros(2, 3))
        >>> real_images(task, Batch.of([task.example(0, __import__("random").Random(0))])) is None
        True
    """
    if task.name == "self":
        return None
    known = batch if batch.labelled is None else batch.where(batch.labelled)
    return task.real(known) if len(known) else None


def image_range(task: Task) -> tuple[float, float]:
    """Returns what black and white are in the images that a task's generator makes.

    Example:
        >>> import torch
        >>> from gfx.train import tasks
        >>> images = torch.zeros(1, 3, 8, 8)
        >>> image_range(tasks.paired(images, images, range=(0, 1)))
        (0.0, 1.0)
    """
    found = getattr(task, "target_range", None) or getattr(task, "range", None) or (-1.0, 1.0)
    return float(found[0]), float(found[1])
