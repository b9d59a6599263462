"""Holds examples out, to judge with: chosen by the seed, seen without augmentation."""

import copy
import random
from typing import TypeVar

from gfx.errors import InputError
from gfx.train.tasks.image_tasks import UnpairedTask
from gfx.train.tasks.task import Task

__all__ = ["hold_out", "keep_for_search"]

T = TypeVar("T", bound=Task)

SHARE = 0.1  # of the examples
MOST = 500
_LEAST = 10  # examples, of which one is held out
_FEWEST = 4  # examples that nets are judged on


def hold_out(task: T, share: float | None = None, seed: int = 0) -> T:
    """Returns the task without the examples that are held out, which are its `held_out`.

    The default share is 0.1, and at most 500 examples are held out; of less than 10 none are,
    unless a share is asked for. A task that holds some out already stays as it is.

    Raises: InputError if the share is none, or leaves nothing.

    Example:
        >>> import torch
        >>> from gfx.train import tasks
        >>> task = hold_out(tasks.inputs(torch.zeros(100, 3)))
        >>> task.length, task.held_out.length
        (90, 10)
    """
    if share is not None and not 0 <= share < 1:
        raise InputError(f"val={share} must be at least 0 and below 1: a share of the examples")
    if task.held_out is not None or share == 0:
        return task
    if task.length < (_LEAST if share is None else 2):
        whole = copy.copy(task)
        whole.about = (*task.about, f"held out: none of {task.length} examples, which are too few")
        return whole
    count = min(max(1, round(task.length * (SHARE if share is None else share))), MOST)
    held, rest = _split(task.length, min(count, task.length - 1), f"held out {seed}")
    made, judged = task.part(rest), task.part(held).for_judging()
    if isinstance(made, UnpairedTask) and isinstance(judged, UnpairedTask):
        reals = len(made.reals)
        if reals >= 2:
            few = max(1, round(reals * count / task.length))
            theirs, ours = _split(reals, min(few, MOST, reals - 1), f"held out reals {seed}")
            made, judged = made.part_of_reals(ours), judged.part_of_reals(theirs)
    judged.about = ()
    made.held_out = judged
    made.about = (*task.about, f"held out: {count} of {task.length} examples, chosen by the seed")
    return made


def keep_for_search(task: T, share: float | None, seed: int = 0) -> tuple[T, T | None]:
    """Returns the task without a share of its examples, and a task of these; None keeps nothing.

    Raises: InputError if the share leaves nothing to train on, or too little to search on.

    Example:
        >>> import torch
        >>> from gfx.train import tasks
        >>> rest, kept = keep_for_search(tasks.inputs(torch.zeros(100, 3)), 0.2)
        >>> rest.length, kept.length
        (80, 20)
    """
    if share is None:
        return task, None
    count = round(task.length * share)
    if count < _FEWEST or task.length - count < 1:
        raise InputError(
            f"data: search: {share} of {task.length} examples are {count}, and a search takes at "
            f"least {_FEWEST} of its own; give a larger share, more data, or leave it out: nets "
            "are then judged on examples of the training set"
        )
    kept, rest = _split(task.length, count, f"search {seed}")
    made, searched = task.part(rest), task.part(kept)
    made.held_out, searched.held_out = task.held_out, None
    made.about = (*task.about, f"kept for the search: {count} of {task.length} examples")
    searched.about = ()
    return made, searched


def _split(count: int, few: int, seed: str) -> tuple[list[int], list[int]]:
    """Splits numbers into a few, chosen by the seed, and the rest, both in order."""
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return sorted(order[:few]), sorted(order[few:])
