"""Reads off a generator what a task must give it: images, noise, classes, attributes.

1. An image is (N, C, H, W) of more than one pixel; noise is (N, C) or (N, C, 1, 1).
2. After noise, whole numbers or a vector are the class; after an image, a vector are attributes.
3. The first image among the outputs is what is made.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gfx.errors import GfxError, InputError
from gfx.ir.execute import run, tensors
from gfx.ir.program import Program

__all__ = ["GeneratorNeeds", "check_kind", "takes"]


@dataclass(frozen=True)
class GeneratorNeeds:
    """What a generator takes and makes, without the batch dimension."""

    image: tuple[int, ...] | None = None  # (C, H, W)
    noise: tuple[int, ...] | None = None
    classes: bool = False  # whether it takes a class
    one_hot: int = 0  # of how many, where it takes the class as a vector
    attributes: int = 0  # how many it takes
    made: tuple[int, ...] | None = None  # (C, H, W)
    shapes: tuple[str, ...] = ()  # of all inputs, for messages
    dtypes: tuple[torch.dtype, ...] = ()

    @staticmethod
    def of(program: Program) -> "GeneratorNeeds":
        """Reads the needs of a program (rules 1 to 3).

        Example:
            >>> import gfx
            >>> GeneratorNeeds.of(gfx.trace(gfx.zoo.build("dcgan", ngf=4))).noise
            (100, 1, 1)
        """
        found: dict[str, Any] = {}
        given = tensors(program.example_inputs)
        for value in given:
            shape = tuple(value.shape[1:])
            if value.ndim == 4 and min(shape[1:]) > 1:
                found.setdefault("image", shape)
            elif not value.is_floating_point():
                found["classes"] = True
            elif "image" in found and value.ndim == 2:
                found["attributes"] = shape[0]
            elif "noise" in found and value.ndim == 2:
                found.update(classes=True, one_hot=shape[0])
            else:
                found.setdefault("noise", shape)
        shapes = tuple("x".join(map(str, value.shape)) for value in given)
        dtypes = tuple(value.dtype for value in given)
        made = _made(program, program.example_inputs)
        return GeneratorNeeds(**found, made=made, shapes=shapes, dtypes=dtypes)

    @property
    def scale(self) -> int:
        """How many times as large images are made as they are given."""
        if self.image is None or self.made is None:
            return 1
        return max(1, self.made[1] // self.image[1])


def check_kind(kind: str, needs: GeneratorNeeds) -> None:
    """Checks that a generator takes what a task gives: noise, a class, attributes, an image.

    Raises: InputError saying what it takes.
    """
    lacks = {
        "latent": needs.noise is None and "noise, (N, C) or (N, C, 1, 1)",
        "class": (needs.noise is None or not needs.classes) and "noise and a class",
        "labels": not needs.attributes and "an image and a vector of attributes",
        "super_resolution": (needs.image is None or needs.scale < 2) and "a smaller image",
        "paired": needs.image is None and "an image",
        "unpaired": needs.image is None and "an image",
    }.get(kind)
    if lacks:
        made = f", and makes {'x'.join(map(str, needs.made))}" if needs.made else ""
        raise InputError(
            f"the generator takes {' and '.join(needs.shapes)}{made}; for the task {kind} it has "
            f"to take {lacks}: take another task, or leave it to be inferred"
        )


def takes(program: Program, channels: int, size: tuple[int, int], scale: int = 1) -> bool:
    """Whether a generator of one image runs at another size, and makes images `scale` as large."""
    example = program.example_inputs[0]
    if len(program.example_inputs) != 1 or not isinstance(example, Tensor):
        return False
    given = torch.zeros(example.shape[0], channels, *size, dtype=example.dtype)
    made = _made(program, (given.to(example.device),))
    return made is not None and made[1:] == (size[0] * scale, size[1] * scale)


def _made(program: Program, inputs: tuple[Any, ...]) -> tuple[int, ...] | None:
    try:
        output = run(program, inputs)
    except (RuntimeError, GfxError, ValueError):  # the sizes do not meet: whoever trains it says so
        return None
    images = [value for value in tensors(output) if value.ndim == 4]
    return tuple(images[0].shape[1:]) if images else None
