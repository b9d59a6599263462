"""The tasks from image to image whose truth is not given: unpaired, super-resolution."""

import copy
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch.nn.functional as F
from torch import Tensor, nn

from gfx.errors import InputError
from gfx.io.data.value_range import Range
from gfx.train.tasks.default_discriminators import patchgan, srgan
from gfx.train.tasks.example_source import ExampleSource
from gfx.train.tasks.source_task import RANGE, SourceTask
from gfx.train.tasks.task import Batch, Example, size_of
from gfx.train.tasks.views import Views, as_image, scaled

__all__ = ["SuperResolutionTask", "UnpairedTask"]


class UnpairedTask(SourceTask):
    """Image to image, without pairs: real images are any of the second set."""

    name: ClassVar[str] = "unpaired"

    def __init__(
        self,
        source: ExampleSource,
        reals: ExampleSource,
        views: Views,
        range: Range = RANGE,
        target_range: Range | None = None,
    ) -> None:
        super().__init__(source, views, range)
        self.reals = reals
        self.target_range = range if target_range is None else target_range
        self.draws = source.draws or reals.draws
        self._keys = ("x", "y")  # of input and real image in a batch

    def example(self, index: int, dice: random.Random) -> Example:
        """Makes an input in one view, and some real image in another."""
        name = self.source.name(index)
        given, view = self.views.view([as_image(self.row(index, dice)[0], name)], dice, name)
        other = dice.randrange(len(self.reals))
        theirs = self.reals.name(other)
        row = self.reals.read(other, dice.getrandbits(32))
        real, their_view = self.views.view([as_image(row[0], theirs)], dice, theirs)
        ranges = dict(zip(self._keys, (self.range, self.target_range), strict=True))
        x, y = scaled(given[0], ranges["x"]), scaled(real[0], ranges["y"])
        key, other_key = self.key(index, view), self.reals.key(other)
        whole = f"{key}|{other_key}{their_view}" if key and other_key else ""
        return Example({"x": x, "y": y}, whole, key)

    def part_of_reals(self, indices: Sequence[int]) -> Self:
        """Returns the task with some of the real images."""
        made = copy.copy(self)
        made.reals = self.reals.part(indices)
        return made

    def keep_decoded(self, most: int) -> None:
        """Keeps decoded pictures, up to so many bytes in all."""
        self.source.keep_decoded(most // 2)
        self.reals.keep_decoded(most // 2)

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """Returns the input images."""
        return (batch.tensors[self._keys[0]],)

    def generate(self, generator: nn.Module, batch: Batch) -> Any:
        """Runs a generator on a batch; a `call` finds its input where it always is."""
        if self.call is not None and self._keys[0] != "x":
            x, y = (batch.tensors[key] for key in self._keys)
            batch = replace(batch, tensors={**batch.tensors, "x": x, "y": y})
        return super().generate(generator, batch)

    def with_input(self, batch: Batch, image: Tensor) -> Batch:
        """Returns a batch whose input is another image; it does not come again."""
        tensors = {**batch.tensors, self._keys[0]: image}
        return replace(batch, tensors=tensors, keys=("",) * len(batch), input_keys=())

    def backwards(self) -> Self:
        """Returns the task from the second set to the first, on the same batches.

        Its range of inputs is that of what the generator makes, and the other way round.

        Example:
            >>> import torch
            >>> from gfx.train import tasks
            >>> there = tasks.unpaired(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8))
            >>> batch = Batch.of([there.example(0, random.Random(0))])
            >>> float(there.backwards().inputs(batch)[0].mean())
            1.0
        """
        made = copy.copy(self)
        made._keys = (self._keys[1], self._keys[0])
        made.range, made.target_range = self.target_range, self.range
        return made

    def real(self, batch: Batch) -> Tensor:
        """Returns images of the second set."""
        return batch.tensors[self._keys[1]]

    def default_discriminator(self, made: Tensor, batch: Batch) -> str:
        """Returns the PatchGAN of CycleGAN."""
        return patchgan(made.shape[1], size_of(made))


class SuperResolutionTask(SourceTask):
    """Small image to large: the small one is the large one, scaled down.

    Source: Ledig et al. 2017, arXiv:1609.04802, section 3.2 (bicubic, the small images in [0, 1]).
    """

    name: ClassVar[str] = "super_resolution"

    def __init__(
        self,
        source: ExampleSource,
        scale: int,
        views: Views,
        range: Range = RANGE,
        target_range: Range | None = None,
    ) -> None:
        super().__init__(source, views, range)
        self.scale = scale
        self.target_range = range if target_range is None else target_range

    def example(self, index: int, dice: random.Random) -> Example:
        """Makes a large image in one view, and the small one."""
        row, name = self.row(index, dice), self.source.name(index)
        (large,), view = self.views.view([as_image(row[0], name)], dice, name)
        height, width = large.shape[-2:]
        if height % self.scale or width % self.scale:
            raise InputError(
                f"{name} is {width} wide and {height} high, and the generator makes images "
                f"{self.scale} times as large; give crop=, a multiple of "
                f"{self.scale}"
            )
        y = scaled(large, self.target_range)
        low, high = self.target_range
        small = F.interpolate(
            ((y - low) / (high - low))[None],
            (height // self.scale, width // self.scale),
            mode="bicubic",
            align_corners=False,
            antialias=True,
        )[0].clamp(0, 1)
        x = small * (self.range[1] - self.range[0]) + self.range[0]
        return Example({"x": x, "y": y}, self.key(index, view))

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """Returns the small images."""
        return (batch.tensors["x"],)

    def target(self, batch: Batch) -> Tensor | None:
        """Returns the large images."""
        return batch.tensors["y"]

    def real(self, batch: Batch) -> Tensor:
        """Returns the large images."""
        return batch.tensors["y"]

    def default_discriminator(self, made: Tensor, batch: Batch) -> str:
        """Returns the discriminator of SRGAN."""
        return srgan(made.shape[1], size_of(made))
