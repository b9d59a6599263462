"""The task of pairs: an image, and what is to be made of it."""

import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from gfx.errors import InputError
from gfx.io.data.datasets.label_maps import one_hot
from gfx.io.data.value_range import Range
from gfx.train.tasks.default_discriminators import patchgan, patchgan_of_labels
from gfx.train.tasks.example_source import ExampleSource
from gfx.train.tasks.source_task import RANGE, SourceTask
from gfx.train.tasks.task import Batch, Example, size_of
from gfx.train.tasks.views import Views, as_image, scaled

__all__ = ["PairedTask"]

_MOST_COLOURS = 4  # channels; more are a map of labels


class PairedTask(SourceTask):
    """Image to image, with the truth: a discriminator sees input and image together.

    Rows are (x, y); a row (x,) has no target. `labelled` says of which rows the target is used.
    With `one_hot` inputs are maps of so many labels. Targets that there are not are NaN: whoever
    takes them all the same does not go on unnoticed.
    """

    name: ClassVar[str] = "paired"
    _judged: str = "joined"  # what a discriminator is called with: joined, apart or alone

    def __init__(
        self,
        source: ExampleSource,
        views: Views,
        range: Range = RANGE,
        target_range: Range | None = None,
        labelled: Sequence[bool] | None = None,
        one_hot: int = 0,
    ) -> None:
        super().__init__(source, views, range)
        self.one_hot = one_hot
        self.target_range = range if target_range is None else target_range
        self.labelled = None if labelled is None else tuple(labelled)
        first = source.read(0)
        if len(first) < 2:
            raise InputError(
                "an example of the data is one image, and pairs are two: give paired(x, y), or a "
                "Dataset whose items are (input, target)"
            )
        self._channels = as_image(first[1], source.name(0)).shape[0]

    def example(self, index: int, dice: random.Random) -> Example:
        """Makes a pair in one view."""
        row, name = self.row(index, dice), self.source.name(index)
        labelled = None if self.labelled is None else self.labelled[index]
        images = [as_image(x, name) for x in (row[:2] if labelled is not False else row[:1])]
        if labelled is not False and len(images) < 2:
            raise InputError(f"{name} has no target; pairs are an input and a target")
        seen, view = self.views.view(images, dice, name)
        x = one_hot(seen[0][0], self.one_hot) if self.one_hot else scaled(seen[0], self.range)
        if len(seen) == 2:
            y = scaled(seen[1], self.target_range)
        else:
            y = torch.full((self._channels, *x.shape[1:]), float("nan"))
        key = self.key(index, view)
        return Example({"x": x, "y": y}, key and key + "-" * (labelled is False), key, labelled)

    def part(self, indices: Sequence[int]) -> Self:
        """Returns the task with some of the pairs."""
        made = super().part(indices)
        if self.labelled is not None:
            made.labelled = tuple(self.labelled[i] for i in indices)
        return made

    def with_labels(self, share: float, seed: int) -> Self:
        """Returns the task where a share of the pairs, chosen by the seed, has its target."""
        order = [i for i in range(self.length) if self.labelled is None or self.labelled[i]]
        random.Random(f"labels {seed}").shuffle(order)
        kept = set(order[: max(1, round(len(order) * share))])
        made = copy.copy(self)
        made.labelled = tuple(i in kept for i in range(self.length))
        return made

    def only(self, *, labelled: bool) -> Self | None:
        """Returns the task with the examples that have targets, or those that have none, if any."""
        known = self.labelled or (True,) * self.length
        chosen = [i for i, has in enumerate(known) if has == labelled]
        return self.part(chosen) if chosen else None

    @property
    def partly_labelled(self) -> bool:
        """Whether some pairs have their targets, and others do not."""
        return self.labelled is not None and len(set(self.labelled)) == 2

    def target_else(self, batch: Batch, other: Tensor) -> Tensor:
        """Returns the truth of the pairs that have one, and of the rest what is given."""
        if batch.labelled is None:
            return batch.tensors["y"]
        return torch.where(batch.labelled.view(-1, 1, 1, 1), batch.tensors["y"], other)

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """Returns the input images."""
        return (batch.tensors["x"],)

    def target(self, batch: Batch) -> Tensor | None:
        """Returns the truth; None unless each example has one."""
        known = batch.labelled is None or bool(batch.labelled.all())
        return batch.tensors["y"] if known else None

    def real(self, batch: Batch) -> Tensor:
        """Returns the truth.

        Raises: InputError if an example has none.
        """
        found = self.target(batch)
        if found is None:
            assert batch.labelled is not None
            missing = int((~batch.labelled).sum())
            raise InputError(
                f"{missing} of {len(batch)} examples of the batch have no target, and so no real "
                "image; take batch.where(batch.labelled)"
            )
        return found

    def judged(self, batch: Batch, image: Tensor) -> tuple[Any, ...]:
        """Returns input and image side by side in the channels, or as `judged_otherwise` says."""
        if self._judged == "alone":
            return (image,)
        if self._judged == "apart":
            return batch.tensors["x"], image
        return (torch.cat((batch.tensors["x"], image), 1),)

    def judged_otherwise(self) -> Iterator[tuple[Self, str]]:
        """Yields the task for discriminators of two arguments, and for those of images alone."""
        for form, said in (("apart", "of input and image, in this order"), ("alone", "of images")):
            made = copy.copy(self)
            made._judged = form
            yield made, said

    def default_discriminator(self, made: Tensor, batch: Batch) -> str:
        """Returns the PatchGAN of pix2pix; for maps of labels SPADE's, of two scales."""
        given = batch.tensors["x"].shape[1]
        named = patchgan if given <= _MOST_COLOURS else patchgan_of_labels
        return named(made.shape[1] + given, size_of(made))
