"""Holds what all stages of a run are judged on: examples, their truth, and real images."""

import random
from collections.abc import Iterator
from functools import cached_property

from torch import Tensor

from gfx.metrics import Reference
from gfx.train.runs.feature_cache import FeatureCache
from gfx.train.runs.real_images import image_range, real_images
from gfx.train.tasks import Batch, Task

__all__ = ["HeldOutSet", "unit"]

_BATCH = 8
_MOST = 200  # held-out examples that are judged
_REALS = 2000  # real images that sets are compared with


class HeldOutSet:
    """The held-out examples of a task in batches; each is made once.

    `truths` are their targets, None if one has none; `reals` the real images of the training set,
    which are made when they are read: at most a batch of them is in memory.
    """

    def __init__(self, task: Task) -> None:
        self._whole = task
        self.task = task.for_judging() if task.held_out is None else task.held_out

    @cached_property
    def batches(self) -> list[Batch]:
        """The examples; of many, some."""
        return list(_batches(self.task, _MOST))

    @cached_property
    def truths(self) -> list[Tensor] | None:
        """The ground truth of each batch, (N, C, H, W)."""
        truths = [self.task.target(batch) for batch in self.batches]
        known = [truth for truth in truths if truth is not None]
        return known if len(known) == len(truths) else None

    @cached_property
    def reals(self) -> Reference | None:
        """Real images in [-1, 1], whose features are kept; None if there are none."""
        reals = _Reals(self._whole.for_judging(), image_range(self.task))
        return Reference(reals, FeatureCache()) if any(True for _ in reals) else None


class _Reals:
    """The real images of a task in [-1, 1], in batches; they are the same each time."""

    def __init__(self, task: Task, range: tuple[float, float]) -> None:
        self.task, self.range = task, range

    def __iter__(self) -> Iterator[Tensor]:
        for batch in _batches(self.task, _REALS):
            images = real_images(self.task, batch)
            if images is not None:
                yield unit(images, self.range)


def unit(images: Tensor, range: tuple[float, float]) -> Tensor:
    """Scales images from a range to [-1, 1]; what is beyond white is white.

    Example:
        >>> import torch
        >>> unit(torch.tensor([0.0, 0.5, 2.0]), (0.0, 1.0)).tolist()
        [-1.0, 0.0, 1.0]
    """
    low, high = range
    return ((images - low) / (high - low) * 2 - 1).clamp(-1, 1)


def _batches(task: Task, most: int) -> Iterator[Batch]:
    """Makes batches of the examples of a task, each once; of many, some."""
    indices = list(range(task.length))
    if len(indices) > most:
        indices = sorted(random.Random(0).sample(indices, most))
    for first in range(0, len(indices), _BATCH):
        some = indices[first : first + _BATCH]
        yield Batch.of([task.example(index, random.Random(f"0 {index}")) for index in some])
