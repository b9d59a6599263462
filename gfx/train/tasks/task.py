"""Defines what a task is: its batches, and how the players are called with them."""

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from gfx.errors import InputError

__all__ = ["Batch", "Example", "Task"]


@dataclass(frozen=True)
class Example:
    """One example of a task: tensors without a batch dimension, and what tells it from others.

    Equal keys mean equal tensors; "" is of one that never comes again, as with fresh noise.
    """

    tensors: Mapping[str, Tensor]
    key: str = ""


@dataclass(frozen=True)
class Batch:
    """The examples that a step trains on.

    Shapes: the first dimension of each tensor is the batch.

    Example:
        >>> batch = Batch.of([Example({"x": torch.zeros(3)}, "0"), Example({"x": torch.ones(3)}, "1")])
        >>> batch.tensors["x"].shape, batch.rows(slice(0, 1)).keys
        (torch.Size([2, 3]), ('0',))
    """

    tensors: Mapping[str, Tensor]
    keys: tuple[str, ...]

    @staticmethod
    def of(examples: Sequence[Example]) -> "Batch":
        """Stacks examples.

        Raises: InputError if their shapes differ.
        """
        names = examples[0].tensors.keys()
        try:
            tensors = {name: torch.stack([e.tensors[name] for e in examples]) for name in names}
        except RuntimeError as error:
            shapes = {tuple(t.shape) for e in examples for t in e.tensors.values()}
            said = ", ".join("x".join(map(str, shape)) for shape in sorted(shapes))
            raise InputError(
                f"the examples of a batch have other shapes ({said}); give size= and crop=, in the "
                "shell --size and --crop, so that all are alike"
            ) from error
        return Batch(tensors, tuple(e.key for e in examples))

    def to(self, device: torch.device | str) -> "Batch":
        """Returns the batch on a device."""
        moved = {name: t.to(device, non_blocking=True) for name, t in self.tensors.items()}
        return replace(self, tensors=moved)

    def rows(self, part: slice) -> "Batch":
        """Returns some of the examples."""
        return Batch({name: t[part] for name, t in self.tensors.items()}, self.keys[part])


class Task(ABC):
    """What a generator is trained to do, and with what data.

    `about` says in sentences what was assumed.
    """

    name: ClassVar[str]
    about: tuple[str, ...] = ()
    held_out: "Task | None" = None

    @property
    @abstractmethod
    def length(self) -> int:
        """The number of examples of one epoch."""

    @property
    def variants(self) -> int | None:
        """In how many forms an example comes, as flipped or not; None: never twice in one."""
        return None

    @abstractmethod
    def example(self, index: int, dice: random.Random) -> Example:
        """Makes one example; all that is random about it comes from the dice."""

    @abstractmethod
    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """Returns the arguments of the generator."""

    def target(self, batch: Batch) -> Tensor | None:
        """Returns the ground truth; None if the task has none."""
        return None

    @abstractmethod
    def real(self, batch: Batch) -> Tensor:
        """Returns real images."""

    def judged(self, batch: Batch, image: Tensor) -> tuple[Any, ...]:
        """Returns the arguments of the discriminator for images."""
        return (image,)

    def image(self, output: Any) -> Tensor:
        """Picks the image out of what a generator returns.

        Raises: InputError if there is none.
        """
        found = output
        for _ in range(4):
            if isinstance(found, Tensor):
                return found
            if isinstance(found, Mapping):
                found = next(iter(found.values()), None)
            elif isinstance(found, Sequence) and not isinstance(found, str) and found:
                found = found[0]
            elif hasattr(found, "sample") and isinstance(found.sample, Tensor):
                found = found.sample
            else:
                break
        raise InputError(
            f"the generator returns a {type(output).__name__} without an image; wrap it in a "
            "module that returns the image"
        )

    @abstractmethod
    def default_discriminator(self, real: Tensor, batch: Batch) -> str:
        """Returns what builds the paper's discriminator for this task, as "zoo:patchgan"."""
