"""Reads maps of labels: pictures that hold the number of a label at each pixel.

A palette's numbers are the labels, whatever its colours; of grey pictures the grey is. Sizes change
by the nearest pixel: between two labels there is no other.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gfx.errors import InputError
from gfx.io.data.pillow_images import opened
from gfx.io.guards import printable

__all__ = ["one_hot", "read_label_map", "resized_map"]

_MODES = ("P", "L", "1", "I", "I;16", "I;16B", "I;16L")


def read_label_map(path: Path, count: int) -> NDArray[np.uint8]:
    """Reads a map of labels from 0 to `count` - 1.

    Shapes: (H, W).
    Raises: InputError naming the file, if it is damaged, in colours, or holds another label.
    """
    try:
        with opened(path) as image:
            mode, numbers = image.mode, np.asarray(image)
    except Exception as error:  # a damaged file fails anywhere in its decoder, with any error
        raise InputError(
            f"{printable(path)} cannot be read as a map of labels: {printable(error)}"
        ) from error
    if mode not in _MODES:
        raise InputError(
            f"{printable(path)} is in colours ({mode}), and the generator takes maps of {count} "
            "labels: a picture, grey or with a palette, of the number of a label at each pixel"
        )
    found = int(numbers.max())
    if found >= count:
        raise InputError(
            f"{printable(path)} holds the label {found}, and the generator takes {count}, from 0 "
            f"to {count - 1}; give what has no label a number of these"
        )
    return numbers.astype(np.uint8)


def resized_map(numbers: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Brings a map to a size, by the nearest pixel."""
    rows = (np.arange(height) + 0.5) * numbers.shape[0] // height
    columns = (np.arange(width) + 0.5) * numbers.shape[1] // width
    found: Any = numbers[rows.astype(int)][:, columns.astype(int)]
    return np.asarray(found)


def one_hot(numbers: Tensor, count: int) -> Tensor:
    """Returns a map of labels as one channel for each.

    Shapes: (H, W) -> (count, H, W), float32.

    Example:
        >>> one_hot(torch.tensor([[0, 1]], dtype=torch.uint8), 2).tolist()
        [[[1.0, 0.0]], [[0.0, 1.0]]]
    """
    values = np.zeros((count, *numbers.shape), np.float32)
    rows, columns = np.indices(numbers.shape)
    values[numbers.numpy(), rows, columns] = 1
    return torch.from_numpy(values)
