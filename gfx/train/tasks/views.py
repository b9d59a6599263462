"""How examples are seen: values in a range, cut to one size, flipped or not.

1. 8 bits become the range, white exactly its upper end; floats are taken as they are.
2. For training, a view is drawn by the dice; for judging it is the middle, not flipped.
3. Images of one example are seen in the same view.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfx.errors import InputError
from gfx.io.data.value_range import Range

__all__ = ["Views", "as_image", "scaled"]

Size = tuple[int, int]


@dataclass(frozen=True)
class Views:
    """Cuts images to `crop`, height and width, and flips them from left to right.

    `anywhere` cuts at random, else from the middle; `flip` flips half of the time.
    """

    crop: Size | None = None
    flip: bool = True
    anywhere: bool = False

    @property
    def variants(self) -> int | None:
        """In how many forms an image comes; None: in many."""
        return None if self.anywhere and self.crop is not None else 1 + self.flip

    def view(
        self, images: Sequence[Tensor], dice: random.Random, name: str
    ) -> tuple[list[Tensor], str]:
        """Returns images of one size in one view, and what tells the view.

        Raises: InputError if they are of other sizes, or smaller than the crop.
        """
        height, width = images[0].shape[-2:]
        if any(image.shape[-2:] != images[0].shape[-2:] for image in images):
            shapes = " and ".join(f"{x.shape[-1]}x{x.shape[-2]}" for x in images)
            raise InputError(
                f"{name}: input and target are {shapes} (width x height); a pair is of one size"
            )
        found, key = list(images), ""
        # drawn in any case: what an image is cut to does not change how it is flipped
        first, second, third = dice.random(), dice.random(), dice.random()
        if self.crop is not None and self.crop != (height, width):
            rows, columns = height - self.crop[0], width - self.crop[1]
            if rows < 0 or columns < 0:
                raise InputError(
                    f"{name} is {width} wide and {height} high, smaller than the crop "
                    f"{self.crop[1]}x{self.crop[0]}; give larger images, or a smaller crop"
                )
            top, left = rows // 2, columns // 2
            if self.anywhere:
                top, left = int(first * (rows + 1)), int(second * (columns + 1))
            bottom, right = top + self.crop[0], left + self.crop[1]
            found = [x[..., top:bottom, left:right] for x in found]
            key = f"@{top},{left}"
        if self.flip and third < 0.5:
            found = [x.flip(-1) for x in found]
            key += "f"
        return found, key

    def for_judging(self) -> "Views":
        """Returns the views without chance (rule 2)."""
        return Views(self.crop, flip=False, anywhere=False)


def as_image(value: Any, name: str) -> Tensor:
    """Returns an image as a tensor (C, H, W): of a tensor, an array, or a picture of Pillow's.

    Arrays of 8 bits and pictures are (H, W, C), as everywhere.

    Raises: InputError if it is none.

    Example:
        >>> as_image(np.zeros((4, 6, 3), np.uint8), "a").shape
        torch.Size([3, 4, 6])
    """
    found = value
    if not isinstance(found, Tensor | np.ndarray) and hasattr(found, "convert"):
        grey = found.mode in ("1", "L", "I", "I;16", "F")
        found = np.array(found.convert("L" if grey else "RGB"))
    if isinstance(found, np.ndarray):
        if found.dtype == np.uint8 and found.ndim == 2:
            found = found[:, :, None]
        if found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] in (1, 3, 4):
            found = np.ascontiguousarray(found.transpose(2, 0, 1))
        found = torch.from_numpy(found)
    if isinstance(found, Tensor) and found.ndim == 3:
        return found.detach()
    shape = "x".join(map(str, found.shape)) if isinstance(found, Tensor) else type(value).__name__
    raise InputError(f"{name} is {shape}; give images (C, H, W)")


def scaled(value: Tensor, range: Range) -> Tensor:
    """Returns an image as float32 in a range (rule 1).

    Example:
        >>> scaled(torch.tensor([0, 255], dtype=torch.uint8), (-1.0, 1.0))
        tensor([-1.,  1.])
    """
    if value.dtype == torch.uint8:
        return torch.from_numpy(_table(*range)[value.numpy()])
    return value.float() if value.is_floating_point() else value


@lru_cache(maxsize=16)
def _table(low: float, high: float) -> Any:
    return (np.arange(256) / 255 * (high - low) + low).astype(np.float32)
