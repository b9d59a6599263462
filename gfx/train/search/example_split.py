"""Splits the examples of a task: some are searched on, others refitted on, fresh ones judge again.

1. The front is judged on what the task holds out, where that is four examples or more; else on a
   part of the others, half of them at most.
2. What is left is searched on, as many as asked for, and refitted on. Where too few are left for
   that, layers are refitted on those that are searched on, too: that is said.
3. Drawn latents are others in each part, whatever their number.
"""

import random
from dataclasses import dataclass

from gfx.errors import InputError
from gfx.train.runs.held_out_set import HeldOutSet
from gfx.train.search.judged_examples import JudgedExamples
from gfx.train.tasks import Task

__all__ = ["ExampleSplit", "split_examples"]

_FRESH = 200  # examples that a front is judged on, at most
_FIT = 512  # examples that layers are refitted on, at most
_LEAST = 4  # examples of a part
_BATCH = 32  # of examples that layers are refitted on


@dataclass(frozen=True)
class ExampleSplit:
    """The examples that are searched on, fresh ones, and those that layers are refitted on."""

    searched: JudgedExamples
    fresh: JudgedExamples
    fit: JudgedExamples | None
    about: tuple[str, ...]


def split_examples(
    task: Task, *, examples: int = 64, fits: bool = False, seed: int = 0
) -> ExampleSplit:
    """Splits the examples of a task.

    Args:
        task: with or without examples that it holds out.
        examples: how many are searched on, at most.
        fits: whether layers are refitted.
        seed: chooses them.

    Raises: InputError if there are too few examples.

    Example:
        >>> import torch
        >>> from gfx.train import tasks
        >>> found = split_examples(tasks.inputs(torch.zeros(20, 3)), examples=8)
        >>> found.searched.count, found.fresh.count
        (8, 10)
    """
    if task.length < 2 * _LEAST:
        raise InputError(
            f"a search needs {2 * _LEAST} examples, to search on and to judge the front again, and "
            f"data has {task.length}; give more"
        )
    if examples < _LEAST:
        raise InputError(f"examples={examples} are too few to search on; give {_LEAST} or more")
    order = list(range(task.length))
    random.Random(f"split {seed}").shuffle(order)
    held = task.held_out
    said = []
    if held is None or held.length < _LEAST:
        count = min(_FRESH, task.length // 2)
        held, order = task.part(sorted(order[:count])), order[count:]
    ours = task.part(sorted(order[:examples]))
    reals = HeldOutSet(task).reals
    searched = JudgedExamples.of(ours, most=examples, name="searched", seed=seed, reals=reals)
    fresh = JudgedExamples.of(held, most=_FRESH, name="fresh", seed=seed, reals=reals)
    said.append(
        f"searched on {searched.count} examples, and the front judged again on {fresh.count} others"
    )
    fit = None
    if fits:
        rest = order[examples:][:_FIT]
        if len(rest) < len(order[:examples]):
            rest = order[:_FIT]
            said.append(f"too few examples: layers are refitted on those searched on, {len(rest)}")
        else:
            said.append(f"layers are refitted on {len(rest)} other examples")
        part = task.part(sorted(rest))
        fit = JudgedExamples.of(part, most=_FIT, name="fit", seed=seed, reals=reals, batch=_BATCH)
    return ExampleSplit(searched, fresh, fit, tuple(said))
