"""Chooses the discriminator that a stage begins with, and refuses one that does not fit.

1. It is refused, with the shapes, before the first step if it does not take what the task gives it.
2. Weights that are drawn anew are drawn from the seed.
"""

import random
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from gfx.errors import InputError
from gfx.ir.preserve import preserved
from gfx.ir.random_state import keep_random_state
from gfx.train.runs.critic_source import CriticSource
from gfx.train.runs.real_images import real_images
from gfx.train.systems import Critic
from gfx.train.tasks import Batch, Task

__all__ = ["StageCritic", "shape_text"]


class StageCritic:
    """Makes the discriminators of one stage.

    `left` are those that earlier stages left, by stage; `first` is the stage's first batch, `say`
    is told what was assumed.
    """

    def __init__(
        self,
        stage: str,
        source: CriticSource,
        left: Mapping[str, nn.Module],
        task: Task,
        first: Batch,
        say: Callable[[str], None],
    ) -> None:
        self.stage, self.source, self.left = stage, source, left
        self.task, self.say = task, say
        known = task.only(labelled=True) if task.partly_labelled else None
        if known is not None:  # whether the first batch has real images is chance
            first = Batch.of([known.example(0, random.Random(0))]).to(_device_of(first))
        self.first = first

    def begin(self, wanted: Critic, teachers: Sequence[str], seed: int) -> nn.Module | None:
        """Returns the discriminator that a stage begins with, on the device of its first batch.

        `teachers` are the stages whose discriminator is inherited before any other's. None where
        none is wanted.

        Raises: InputError if there is none, or it does not fit.
        """
        if wanted.begins == "none":
            return None
        real = real_images(self.task, self.first)
        if real is None:
            raise InputError(
                f"stage {self.stage}: a discriminator compares with real images, and the task "
                f"{self.task.name} has none among the examples of the stage; give `discriminator: "
                "none` and no term that goes through one, or other data"
            )
        made = self._chosen(wanted, teachers, seed).to(real.device)
        self.task = self.check(made, self.task)
        return made

    def _chosen(self, wanted: Critic, teachers: Sequence[str], seed: int) -> nn.Module:
        begins, source = wanted.begins, self.source
        if begins in ("inherit", "frozen"):
            if wanted.of is not None and wanted.of not in self.left:
                raise InputError(
                    f"stage {self.stage}: discriminator: of: {wanted.of} has left none; name a "
                    "stage that trains one, or leave `of` out"
                )
            named = teachers if wanted.of is None else [wanted.of]
            stages = [name for name in named if name in self.left]
            left = stages or list(self.left)[-1:]
            if left:
                return source.copy_of(self.left[left[0]])
        if source.trained and begins != "fresh":
            return source.given_copy()
        if begins in ("given", "frozen"):
            raise InputError(
                f"stage {self.stage}: discriminator: {begins} asks for a trained one, and none was "
                "given; give discriminator=, in the shell --discriminator FILE"
            )
        if begins == "inherit":
            self.say(
                f"stage {self.stage}: no trained discriminator was given, so that a fresh "
                f"{source.name} begins with new weights"
            )
        return source.new(seed)

    def check(self, critic: nn.Module, task: Task) -> Task:
        """Returns the task with the arguments that a discriminator takes (rule 1).

        Raises: InputError with the shapes if it takes none that the task can give it.
        """
        real = real_images(task, self.first)
        assert real is not None
        given = task.judged(self.first, real)
        error = _failure(critic, given)
        if error is None:
            return task
        for other, said in task.judged_otherwise():
            if _failure(critic, other.judged(self.first, real)) is None:
                self.say(
                    f"stage {self.stage}: the discriminator ({type(critic).__name__}) is one {said}"
                )
                return other
        shapes = ", ".join(shape_text(x) for x in given)
        raise InputError(
            f"stage {self.stage}: the discriminator ({type(critic).__name__}) does not take "
            f"what the task {task.name} gives it, {shapes}: {str(error)[:200]}; give one "
            f"that does, or none: then {self.source.default} is made"
        ) from error


def _failure(critic: nn.Module, given: Sequence[object]) -> Exception | None:
    """Returns what a discriminator raises of its arguments, if anything."""
    try:
        with torch.no_grad(), preserved(critic), keep_random_state():
            critic(*given)
    except Exception as error:  # of anyone's module
        return error
    return None


def _device_of(batch: Batch) -> torch.device:
    """Returns the device of a batch."""
    return next(iter(batch.tensors.values())).device


def shape_text(value: object) -> str:
    """Writes the shape of a tensor, or the type of anything else.

    Example:
        >>> shape_text(torch.zeros(2, 3))
        '2x3'
    """
    return "x".join(map(str, value.shape)) if isinstance(value, Tensor) else type(value).__name__
