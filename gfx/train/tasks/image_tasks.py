"""The tasks of images: paired, unpaired, latent, super-resolution, and the model's own outputs."""

import random
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gfx.errors import InputError
from gfx.train.tasks.image_source import ImageSource
from gfx.train.tasks.task import Batch, Example, Task

__all__ = ["InputsTask", "LatentTask", "PairedTask", "SuperResolutionTask", "UnpairedTask"]


class _Views:
    """How an image is seen: cut to `crop` anywhere, and flipped or not."""

    def __init__(self, crop: int | None, flip: bool) -> None:
        self.crop, self.flip = crop, flip

    @property
    def variants(self) -> int | None:
        """In how many forms an image comes."""
        return None if self.crop is not None else 1 + self.flip

    def view(self, images: Sequence[Tensor], dice: random.Random) -> tuple[list[Tensor], str]:
        """Returns images of one size in the same view, and what tells the view."""
        height, width = images[0].shape[-2:]
        key = ""
        found = list(images)
        if self.crop is not None:
            if min(height, width) < self.crop:
                raise InputError(
                    f"an image is {width} wide and {height} high, smaller than crop {self.crop}; "
                    "give larger images, or a smaller crop (in the shell --crop)"
                )
            top, left = dice.randint(0, height - self.crop), dice.randint(0, width - self.crop)
            found = [x[..., top : top + self.crop, left : left + self.crop] for x in found]
            key = f"{top},{left}"
        if self.flip and dice.random() < 0.5:
            found = [x.flip(-1) for x in found]
            key += "f"
        return found, key


class PairedTask(Task):
    """Image to image, with the truth: a discriminator sees input and image together."""

    name: ClassVar[str] = "paired"

    def __init__(
        self, x: ImageSource, y: ImageSource, *, crop: int | None = None, flip: bool = True
    ) -> None:
        if x.count != y.count:
            raise InputError(
                f"there are {x.count} inputs and {y.count} targets; pairs are as many of both"
            )
        self.x, self.y, self.views = x, y, _Views(crop, flip)

    @property
    def length(self) -> int:
        """The number of pairs."""
        return self.x.count

    @property
    def variants(self) -> int | None:
        """Flipped or not; none twice with crops."""
        return self.views.variants

    def example(self, index: int, dice: random.Random) -> Example:
        """Makes a pair in one view."""
        x, y = self.x.read(index), self.y.read(index)
        if x.shape[-2:] != y.shape[-2:]:
            raise InputError(
                f"pair {self.x.names[index] or index}: the input is {_size(x)}, the target "
                f"{_size(y)}; a pair is of one size"
            )
        (x, y), key = self.views.view([x, y], dice)
        return Example({"x": x, "y": y}, f"{index}/{key}")

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """Returns the input images."""
        return (batch.tensors["x"],)

    def target(self, batch: Batch) -> Tensor | None:
        """Returns the truth."""
        return batch.tensors["y"]

    def real(self, batch: Batch) -> Tensor:
        """Returns the truth."""
        return batch.tensors["y"]

    def judged(self, batch: Batch, image: Tensor) -> tuple[Any, ...]:
        """Returns input and image side by side in the channels."""
        return (torch.cat((batch.tensors["x"], image), 1),)

    def default_discriminator(self, real: Tensor, batch: Batch) -> str:
        """Returns the PatchGAN of pix2pix."""
        return f"zoo:patchgan?input_nc={real.shape[1] + batch.tensors['x'].shape[1]}"


class UnpairedTask(Task):
    """Image to image, without pairs: real images are any of the second set."""

    name: ClassVar[str] = "unpaired"

    def __init__(
        self, a: ImageSource, b: ImageSource, *, crop: int | None = None, flip: bool = True
    ) -> None:
        self.a, self.b, self.views = a, b, _Views(crop, flip)

    @property
    def length(self) -> int:
        """The number of inputs."""
        return self.a.count

    @property
    def variants(self) -> int | None:
        """Flipped or not; none twice with crops."""
        return self.views.variants

    def example(self, index: int, dice: random.Random) -> Example:
        """Makes an input in one view, and some real image."""
        (x,), key = self.views.view([self.a.read(index)], dice)
        (y,), _ = self.views.view([self.b.read(dice.randrange(self.b.count))], dice)
        return Example({"x": x, "y": y}, f"{index}/{key}")

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """Returns the input images."""
        return (batch.tensors["x"],)

    def real(self, batch: Batch) -> Tensor:
        """Returns images of the second set."""
        return batch.tensors["y"]

    def default_discriminator(self, real: Tensor, batch: Batch) -> str:
        """Returns the PatchGAN of CycleGAN."""
        return f"zoo:patchgan?input_nc={real.shape[1]}"


class LatentTask(Task):
    """Noise to image: the noise of an example is new in each epoch."""

    name: ClassVar[str] = "latent"

    def __init__(
        self, images: ImageSource, z: Sequence[int], *, crop: int | None = None, flip: bool = True
    ) -> None:
        self.images, self.z, self.views = images, tuple(z), _Views(crop, flip)

    @property
    def length(self) -> int:
        """The number of real images."""
        return self.images.count

    def example(self, index: int, dice: random.Random) -> Example:
        """Makes noise, and a real image."""
        (y,), _ = self.views.view([self.images.read(index)], dice)
        drawn = torch.Generator().manual_seed(dice.getrandbits(63))
        return Example({"z": torch.randn(self.z, generator=drawn), "y": y})

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """Returns the noise."""
        return (batch.tensors["z"],)

    def real(self, batch: Batch) -> Tensor:
        """Returns real images."""
        return batch.tensors["y"]

    def default_discriminator(self, real: Tensor, batch: Batch) -> str:
        """Returns the discriminator of DCGAN."""
        return f"zoo:dcgan_discriminator?channels={real.shape[1]}&image_size={real.shape[2]}"


class SuperResolutionTask(Task):
    """Small image to large: the small one is the large one, scaled down."""

    name: ClassVar[str] = "super_resolution"

    def __init__(
        self, images: ImageSource, scale: int, *, crop: int | None = None, flip: bool = True
    ) -> None:
        self.images, self.scale, self.views = images, scale, _Views(crop, flip)

    @property
    def length(self) -> int:
        """The number of images."""
        return self.images.count

    @property
    def variants(self) -> int | None:
        """Flipped or not; none twice with crops."""
        return self.views.variants

    def example(self, index: int, dice: random.Random) -> Example:
        """Makes an image, and the same scaled down."""
        (y,), key = self.views.view([self.images.read(index)], dice)
        height, width = (side - side % self.scale for side in y.shape[-2:])
        y = y[..., :height, :width]
        size = height // self.scale, width // self.scale
        x = F.interpolate(y[None], size, mode="bicubic", antialias=True, align_corners=False)[0]
        return Example({"x": x, "y": y}, f"{index}/{key}")

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """Returns the small images."""
        return (batch.tensors["x"],)

    def target(self, batch: Batch) -> Tensor | None:
        """Returns the large images."""
        return batch.tensors["y"]

    def real(self, batch: Batch) -> Tensor:
        """Returns the large images."""
        return batch.tensors["y"]

    def default_discriminator(self, real: Tensor, batch: Batch) -> str:
        """Returns the discriminator of SRGAN."""
        return f"zoo:srgan_discriminator?channels={real.shape[1]}&image_size={real.shape[2]}"


class InputsTask(Task):
    """Inputs alone: the model as it was is what is learnt from."""

    name: ClassVar[str] = "self"

    def __init__(self, inputs: Sequence[tuple[Tensor, ...]]) -> None:
        if not inputs:
            raise InputError("data gives no input; give at least one")
        self.rows = list(inputs)

    @property
    def length(self) -> int:
        """The number of inputs."""
        return len(self.rows)

    @property
    def variants(self) -> int | None:
        """Each comes as it is."""
        return 1

    def example(self, index: int, dice: random.Random) -> Example:
        """Returns one input."""
        return Example({str(n): x for n, x in enumerate(self.rows[index])}, str(index))

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """Returns the inputs in their order."""
        return tuple(batch.tensors[name] for name in sorted(batch.tensors, key=int))

    def real(self, batch: Batch) -> Tensor:
        """Refuses: there are no real images."""
        raise InputError(
            "the task self has inputs and no real images; leave out terms that judge (gan), or give "
            "data with images"
        )

    def default_discriminator(self, real: Tensor, batch: Batch) -> str:
        """Refuses: nothing is judged."""
        raise InputError("the task self has no discriminator; give the fit discriminator: none")


def _size(x: Tensor) -> str:
    return f"{x.shape[-1]} wide and {x.shape[-2]} high"
