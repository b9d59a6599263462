"""The tasks of noise and labels: latent, class, labels; and a model's own outputs as targets."""

import random
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gfx.errors import InputError
from gfx.io.data.value_range import Range
from gfx.train.tasks.default_discriminators import conditional, dcgan, stargan
from gfx.train.tasks.example_source import ExampleSource
from gfx.train.tasks.source_task import RANGE, SourceTask
from gfx.train.tasks.task import Batch, Example, cross_entropy, shape_of, size_of
from gfx.train.tasks.views import Views, as_image, scaled

__all__ = ["ClassTask", "InputsTask", "LabelsTask", "LatentTask"]


class LatentTask(SourceTask):
    """Noise to image: normal noise, other noise for an example in each epoch."""

    name: ClassVar[str] = "latent"

    def __init__(
        self, source: ExampleSource, z: Sequence[int], views: Views, range: Range = RANGE
    ) -> None:
        super().__init__(source, views, range)
        self.z = tuple(z)

    @property
    def variants(self) -> int | None:
        """None: noise does not come again."""
        return None

    def example(self, index: int, dice: random.Random) -> Example:
        """Makes noise, and a real image."""
        return Example({"z": _noise(self.z, dice), "y": self.seen(index, dice)[0]})

    def seen(self, index: int, dice: random.Random) -> tuple[Tensor, tuple[Any, ...]]:
        """Returns a real image in one view, and the whole row."""
        row, name = self.row(index, dice), self.source.name(index)
        (image,), _ = self.views.view([as_image(row[0], name)], dice, name)
        return scaled(image, self.range), row

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """Returns the noise."""
        return (batch.tensors["z"],)

    def real(self, batch: Batch) -> Tensor:
        """Returns real images."""
        return batch.tensors["y"]

    def default_discriminator(self, made: Tensor, batch: Batch) -> str:
        """Returns the discriminator of DCGAN."""
        return dcgan(made.shape[1], size_of(made))


class ClassTask(LatentTask):
    """Noise and class to image: made images are of the classes of the real ones.

    `one_hot` gives the generator a vector of 0 and 1 for each class, else its number.
    """

    name: ClassVar[str] = "class"

    def __init__(
        self,
        source: ExampleSource,
        z: Sequence[int],
        views: Views,
        range: Range = RANGE,
        *,
        classes: int,
        one_hot: bool = False,
        names: Sequence[str] = (),
    ) -> None:
        super().__init__(source, z, views, range)
        self.classes, self.one_hot, self.names = classes, one_hot, tuple(names)

    def example(self, index: int, dice: random.Random) -> Example:
        """Makes noise, a real image, and its class."""
        image, row = self.seen(index, dice)
        name = self.source.name(index)
        if len(row) < 2:
            raise InputError(f"{name} has no class; give items (image, class)")
        label = torch.as_tensor(row[1]).long().reshape(())
        if not 0 <= int(label) < self.classes:
            raise InputError(
                f"{name} is of class {int(label)}, and there are {self.classes}, from 0 on"
            )
        return Example({"z": _noise(self.z, dice), "y": image, "c": label})

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """Returns noise and classes."""
        classes = batch.tensors["c"]
        if self.one_hot:
            classes = F.one_hot(classes, self.classes).float()
        return batch.tensors["z"], classes

    def judged(self, batch: Batch, image: Tensor) -> tuple[Any, ...]:
        """Returns images and the numbers of their classes."""
        return image, batch.tensors["c"]

    def label_loss(self, batch: Batch, logits: Tensor, *, fake: bool) -> Tensor:
        """Returns the cross entropy of a discriminator that names classes."""
        return cross_entropy(logits, batch.tensors["c"])

    def default_discriminator(self, made: Tensor, batch: Batch) -> str:
        """Returns the projection discriminator of SAGAN, for large images that of BigGAN."""
        return conditional(made.shape[1], size_of(made), self.classes) or _none(made, self.name)


class LabelsTask(SourceTask):
    """Image and attributes to image: the attributes asked for are those of some other image.

    `names` are of the attributes. Where each image has exactly one of them, they are classes.

    Source: Choi et al. 2018, arXiv:1711.09020, section 3.1.
    """

    name: ClassVar[str] = "labels"

    def __init__(
        self,
        source: ExampleSource,
        table: Tensor,
        views: Views,
        range: Range = RANGE,
        *,
        names: Sequence[str] = (),
    ) -> None:
        super().__init__(source, views, range)
        self.table = table.float()
        self.names = tuple(names)
        self.exclusive = table.shape[1] > 1 and bool((table.sum(1) == 1).all())

    def example(self, index: int, dice: random.Random) -> Example:
        """Makes an image in one view, with its attributes and those asked for."""
        row, name = self.row(index, dice), self.source.name(index)
        (image,), view = self.views.view([as_image(row[0], name)], dice, name)
        asked = dice.randrange(len(self.table))
        tensors = {
            "x": scaled(image, self.range),
            "c_org": torch.as_tensor(row[1]).float(),
            "c_trg": self.table[asked],
        }
        key = self.key(index, view)
        bits = "".join(f"{value:g}," for value in self.table[asked].tolist())
        return Example(tensors, key and f"{key}>{bits}")

    @property
    def variants(self) -> int | None:
        """None: attributes are asked for in too many forms."""
        return None

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """Returns images and the attributes asked for."""
        return batch.tensors["x"], batch.tensors["c_trg"]

    def real(self, batch: Batch) -> Tensor:
        """Returns the images."""
        return batch.tensors["x"]

    def label_loss(self, batch: Batch, logits: Tensor, *, fake: bool) -> Tensor:
        """Returns the loss of classification: of made images by what was asked for."""
        wanted = batch.tensors["c_trg" if fake else "c_org"]
        if logits.shape != wanted.shape:
            raise InputError(
                f"the discriminator names {shape_of(logits)} labels, and the task has "
                f"{shape_of(wanted)}: of one image {wanted.shape[1]}"
            )
        return cross_entropy(logits, wanted.argmax(1) if self.exclusive else wanted)

    def default_discriminator(self, made: Tensor, batch: Batch) -> str:
        """Returns the discriminator of StarGAN, for source and classes."""
        count = batch.tensors["c_org"].shape[1]
        return stargan(made.shape[1], size_of(made), count) or _none(made, self.name)


class InputsTask(SourceTask):
    """Inputs of any kind, without targets: what the original makes of them is the target."""

    name: ClassVar[str] = "self"

    def example(self, index: int, dice: random.Random) -> Example:
        """Returns inputs as they are; images of 8 bits are brought into the range."""
        row, name = self.row(index, dice), self.source.name(index)
        values = [_as_tensor(value, name) for value in row]
        pictures = [v for v in values if v.dtype == torch.uint8 and v.ndim == 3]
        seen, view = self.views.view(pictures, dice, name) if pictures else ([], "")
        after = iter(seen)
        values = [
            scaled(next(after), self.range) if v.dtype == torch.uint8 and v.ndim == 3 else v
            for v in values
        ]
        return Example({f"x{n}": v for n, v in enumerate(values)}, self.key(index, view))

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """Returns the inputs, in order."""
        return tuple(batch.tensors.values())

    def real(self, batch: Batch) -> Tensor:
        """Refuses: there are no real images.

        Raises: InputError.
        """
        raise InputError(
            "the task self has inputs only, and no real images for a discriminator; leave the "
            "discriminator out, or give data of another task"
        )

    def default_discriminator(self, made: Tensor, batch: Batch) -> str:
        """Refuses, as `real` does.

        Raises: InputError.
        """
        raise InputError("the task self needs no discriminator: the original is the target")


def _none(made: Tensor, task: str) -> str:
    raise InputError(
        f"no discriminator of the zoo for the task {task} takes images of {shape_of(made[0])}: "
        "they are square, of a power of two; give a discriminator of your own"
    )


def _as_tensor(value: Any, name: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    if hasattr(value, "convert"):  # a picture of Pillow's
        return as_image(value, name)
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{name} holds a {type(value).__name__}; inputs are tensors, arrays or numbers: leave "
            "it out of the tuple, or give a dictionary, whose strings are names"
        ) from error


def _noise(shape: tuple[int, ...], dice: random.Random) -> Tensor:
    drawn = torch.Generator().manual_seed(dice.getrandbits(63))
    return torch.randn(shape, generator=drawn)
