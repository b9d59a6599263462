"""Defines what a task is: its batches, and how the players are called with them.

1. An example is a function of its index and of the dice alone: no other random number is drawn.
2. Equal keys mean equal tensors, bit for bit; "" is the key of what never comes again.
3. `input_keys` are equal where what the generator gets is: an unpaired example comes again with
   another real image, and a teacher still need not be asked twice.
"""

import copy
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfx.errors import InputError

__all__ = ["Batch", "Example", "Task", "cross_entropy", "shape_of", "size_of"]

Call = Callable[[nn.Module, "Batch"], Any]


@dataclass(frozen=True)
class Example:
    """One example of a task: tensors without a batch dimension, and what tells it from others."""

    tensors: Mapping[str, Tensor]
    key: str = ""
    input_key: str | None = None  # None: as `key`
    labelled: bool | None = None  # None: the task does not ask


@dataclass(frozen=True)
class Batch:
    """The examples that a step trains on.

    Shapes: the first dimension of each tensor is the batch; `labelled` is (N,), bool.

    Example:
        >>> batch = Batch.of([Example({"x": torch.zeros(3)}, "0"), Example({"x": torch.ones(3)})])
        >>> batch.tensors["x"].shape, batch.rows(slice(0, 1)).keys
        (torch.Size([2, 3]), ('0',))
    """

    tensors: Mapping[str, Tensor]
    keys: tuple[str, ...]
    labelled: Tensor | None = None
    input_keys: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.input_keys:
            object.__setattr__(self, "input_keys", self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    @staticmethod
    def of(examples: Sequence[Example]) -> "Batch":
        """Stacks examples.

        Raises: InputError if their shapes differ, or values are not finite.
        """
        names = examples[0].tensors.keys()
        tensors = {name: _stacked(name, [e.tensors[name] for e in examples]) for name in names}
        _require_finite(tensors, examples)
        known = [e.labelled for e in examples if e.labelled is not None]
        return Batch(
            tensors,
            tuple(e.key for e in examples),
            torch.tensor(known) if known else None,
            tuple(e.key if e.input_key is None else e.input_key for e in examples),
        )

    def to(self, device: torch.device | str, non_blocking: bool = True) -> "Batch":
        """Returns the batch on a device."""
        moved = {n: t.to(device, non_blocking=non_blocking) for n, t in self.tensors.items()}
        labelled = self.labelled
        if labelled is not None:
            labelled = labelled.to(device, non_blocking=non_blocking)
        return replace(self, tensors=moved, labelled=labelled)

    def rows(self, part: slice) -> "Batch":
        """Returns some of the examples, as a view."""
        return Batch(
            {name: t[part] for name, t in self.tensors.items()},
            self.keys[part],
            None if self.labelled is None else self.labelled[part],
            self.input_keys[part],
        )

    def where(self, chosen: Tensor) -> "Batch":
        """Returns the examples where `chosen`, (N,) of bool, is true: `where(batch.labelled)`."""
        picked = chosen.nonzero().flatten()
        numbers = picked.tolist()
        return Batch(
            {name: t[picked.to(t.device)] for name, t in self.tensors.items()},
            tuple(self.keys[n] for n in numbers),
            None if self.labelled is None else self.labelled[picked.to(self.labelled.device)],
            tuple(self.input_keys[n] for n in numbers),
        )


class Task(ABC):
    """What a generator is trained to do, and with what data.

    `about` says in sentences what was assumed. `held_out` are examples to judge with, of the same
    kind. `call(generator, batch)` runs generators of odd signatures. `draws` says that the data
    draws random numbers of its own: it is then read in the thread that asks.
    """

    name: ClassVar[str]
    about: tuple[str, ...] = ()
    held_out: "Task | None" = None
    call: Call | None = None
    draws: bool = False

    @property
    @abstractmethod
    def length(self) -> int:
        """The number of examples of one epoch."""

    @property
    def variants(self) -> int | None:
        """In how many forms an example comes, as flipped or not; None: hardly twice in one."""
        return None

    @abstractmethod
    def example(self, index: int, dice: random.Random) -> Example:
        """Makes one example; all that is random about it comes from the dice (rule 1)."""

    @abstractmethod
    def part(self, indices: Sequence[int]) -> Self:
        """Returns the task with some of the examples; their keys stay."""

    def for_judging(self) -> Self:
        """Returns the task without augmentation: cut from the middle, not flipped."""
        return copy.copy(self)

    def keep_decoded(self, most: int) -> None:
        """Keeps decoded pictures, up to so many bytes in all."""
        return

    @abstractmethod
    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """Returns the arguments of the generator."""

    def generate(self, generator: nn.Module, batch: Batch) -> Any:
        """Runs a generator on a batch, by `call` where that was given."""
        if self.call is not None:
            return self.call(generator, batch)
        return generator(*self.inputs(batch))

    def with_input(self, batch: Batch, image: Tensor) -> Batch:
        """Returns a batch whose input is another image, as one that a generator made.

        Raises: InputError if the task has no input images.
        """
        raise InputError(
            f"the task {self.name} has no input image to be replaced; the task unpaired has"
        )

    def backwards(self) -> Self:
        """Returns the task of the way back, on the same batches: from real images to inputs.

        Raises: InputError if the task has none.
        """
        raise InputError(
            f"the task {self.name} has no way back, which `players:` and the terms cycle and "
            "identity take; give data of the task unpaired: two sets of images"
        )

    @property
    def partly_labelled(self) -> bool:
        """Whether some examples have their targets, and others do not."""
        return False

    def only(self, *, labelled: bool) -> Self | None:
        """Returns the task with the examples that have targets, or those that have none, if any.

        Raises: InputError if the task does not ask.
        """
        raise InputError(
            f"the task {self.name} does not ask which examples have their targets, and the task "
            "paired does; leave `data: labelled` or `data: unlabelled` out"
        )

    def target_else(self, batch: Batch, other: Tensor) -> Tensor:
        """Returns the ground truth of the examples that have one, and of the rest what is given."""
        found = self.target(batch)
        return other if found is None else found

    def target(self, batch: Batch) -> Tensor | None:
        """Returns the ground truth; None if the task, or one of the examples, has none."""
        return None

    @abstractmethod
    def real(self, batch: Batch) -> Tensor:
        """Returns real images.

        Raises: InputError if the task, or one of the examples, has none.
        """

    def judged(self, batch: Batch, image: Tensor) -> tuple[Any, ...]:
        """Returns the arguments of the discriminator for images."""
        return (image,)

    def judged_otherwise(self) -> Iterator[tuple[Self, str]]:
        """Yields the task with other arguments for a discriminator, and what they are."""
        yield from ()

    def label_loss(self, batch: Batch, logits: Tensor, *, fake: bool) -> Tensor:
        """Returns the loss of a discriminator that names labels: of real images or of made ones.

        Raises: InputError if the task has no labels.
        """
        raise InputError(f"the task {self.name} has no labels; the tasks labels and class have")

    def image(self, output: Any) -> Tensor:
        """Picks the image out of what a generator returns.

        Raises: InputError if there is none.

        Example:
            >>> from gfx.train import tasks
            >>> tasks.inputs(torch.zeros(2, 3)).image((torch.ones(1), None))
            tensor([1.])
        """
        found = output
        for _ in range(4):
            if isinstance(found, Tensor):
                return found
            if isinstance(getattr(found, "sample", None), Tensor):
                return found.sample  # type: ignore[no-any-return]
            if isinstance(found, Mapping):
                found = next(iter(found.values()), None)
            elif isinstance(found, Sequence) and not isinstance(found, str) and found:
                found = found[0]
            else:
                break
        raise InputError(
            f"the generator returns a {type(output).__name__} without an image; wrap it in a "
            "module that returns the image"
        )

    @abstractmethod
    def default_discriminator(self, made: Tensor, batch: Batch) -> str:
        """Returns what builds the paper's discriminator for images as `made`: "zoo:patchgan"."""


def shape_of(value: Tensor) -> str:
    """Writes a shape: "3x64x64"."""
    return "x".join(map(str, value.shape)) or "a number"


def size_of(images: Tensor) -> tuple[int, int]:
    """Returns height and width of images (N, C, H, W)."""
    return images.shape[2], images.shape[3]


def _require_finite(tensors: Mapping[str, Tensor], examples: Sequence[Example]) -> None:
    """Raises InputError naming the first example with a value that is not finite."""
    for name, stacked in tensors.items():
        if not stacked.is_floating_point() or bool(stacked.sum().isfinite()):
            continue  # a target that there is not is NaN
        for number, one in enumerate(examples):
            if one.labelled is not False and not bool(one.tensors[name].isfinite().all()):
                said = f"example {one.key}" if one.key else f"number {number} of a batch"
                raise InputError(
                    f"{said} of the data holds NaN or infinite values in {name}; leave it out, or "
                    "mend it"
                )


def _stacked(name: str, values: list[Tensor]) -> Tensor:
    shapes = {shape_of(value): None for value in values}
    if len(shapes) > 1:
        raise InputError(
            f"examples of one batch differ in shape: {name} is {' and '.join(list(shapes)[:3])}; "
            "give size=, so that all are alike"
        )
    if values[0].dtype in (torch.float32, torch.float64, torch.int64, torch.uint8):
        # by numpy: torch would start threads of its own beside those that train
        return torch.from_numpy(np.stack([value.numpy() for value in values]))
    return torch.stack(values)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the loss of logits against classes (N,) or attributes (N, K) of 0 and 1.

    Source: Choi et al. 2018, arXiv:1711.09020, equation 2 (a sum over attributes).
    """
    if labels.is_floating_point():
        summed = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        return summed / len(logits)
    return F.cross_entropy(logits, labels)
