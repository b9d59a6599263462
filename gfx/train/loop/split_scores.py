"""Splits what a discriminator returns: scores, and logits of the labels that it names."""

from typing import Any

from torch import Tensor

from gfx.train.tasks import Task

__all__ = ["split_scores"]

_LABELLED = ("class", "labels")  # tasks whose discriminators may name labels


def split_scores(task: Task, said: Any) -> tuple[Any, Tensor | None]:
    """Returns the scores, and the logits (N, K), None where there are none.

    Example:
        >>> import torch
        >>> from gfx.train import tasks
        >>> task = tasks.attributes([(torch.zeros(3, 8, 8), torch.zeros(2))])
        >>> scores, logits = split_scores(task, (torch.zeros(1, 1, 2, 2), torch.zeros(1, 2)))
        >>> scores.shape, logits.shape
        (torch.Size([1, 1, 2, 2]), torch.Size([1, 2]))
    """
    if task.name in _LABELLED and isinstance(said, tuple) and len(said) == 2:
        scores, logits = said
        if isinstance(logits, Tensor) and logits.ndim == 2:
            return scores, logits
    return said, None
