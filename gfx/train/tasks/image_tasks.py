"""The tasks from image to image whose truth is not given: unpaired, super-resolution."""

import copy
import random
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch.nn.functional as F
from torch import Tensor

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

    def example(self, index: int, dice: random.Random) -> Example:
        """Makes an input in one view, and some real image in another."""
        name = self.source.name(index)
        given, view = self.views.view([as_image(self.row(index, dice)[0], name)], dice, name)
        other = dice.randrange(len(self.reals))
        theirs = self.reals.name(other)
        row = self.reals.read(other, dice.getrandbits(32))
        real, their_view = self.views.view([as_image(row[0], theirs)], dice, theirs)
        x, y = scaled(given[0], self.range), scaled(real[0], self.target_range)
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
        return (batch.tensors["x"],)

    def real(self, batch: Batch) -> Tensor:
        """Returns images of the second set."""
        return batch.tensors["y"]

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
