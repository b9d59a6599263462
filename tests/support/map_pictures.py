"""Folders of maps of labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from support.picture_folders import write_pictures

__all__ = ["map_folder"]


def map_folder(folder: Path, numbers: Sequence[int], mode: str = "L") -> Path:
    """Writes maps, each of one label but for a corner of 0, and pictures beside them."""
    write_pictures(folder / "B", len(numbers))
    (folder / "A").mkdir()
    for place, number in enumerate(numbers):
        array = np.full((8, 8), number, np.uint8)
        array[0, 0] = 0
        made = Image.fromarray(array)
        if mode == "P":
            made.putpalette(list(range(255, -1, -1)) * 3)
        made.convert(made.mode if mode == "P" else mode).save(folder / "A" / f"{place:02}.png")
    return folder
