"""Folders of small pictures for tests of data."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["picture", "write_pictures"]

Size = tuple[int, int]


def picture(number: int, size: Size = (8, 8)) -> Image.Image:
    """Makes a picture of noise; `size` is height and width."""
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))


def write_pictures(
    folder: Path, names: Sequence[str] | int = 4, size: Size = (8, 8), first: int = 0
) -> Path:
    """Writes pictures of noise, all different, and returns their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = [f"{n:02}.png" for n in range(names)] if isinstance(names, int) else names
    for number, name in enumerate(listed, first):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number, size).save(path)
    return folder
