"""Reads a folder of images as data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfx.errors import InputError

__all__ = ["images"]

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by number of channels


def images(folder: Path, example: Tensor) -> Iterator[Tensor]:
    """Reads the images of a folder and its subfolders, in the order of their paths.

    Each is made grey (1 channel), RGB (3) or RGBA (4), cut to the shape of the example from its
    middle, scaled down to its size (bicubic) and its values to [-1, 1]. One that would have to be
    blown up is refused: a model is judged wrongly by blurred images. A last batch that is not full
    is given too.

    Shapes: those of the example, (N, C, H, W).
    Raises: InputError if the example is no image, the folder holds none, a file cannot be read or
    is too small, or Pillow is not installed.
    """
    if example.ndim != 4 or example.shape[1] not in _MODES:
        shape = "x".join(map(str, example.shape))
        raise InputError(
            f"{folder} holds images, and the model takes {shape}, which is none (N, C, H, W with "
            "1, 3 or 4 channels); give data= in Python"
        )
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give a folder of images")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
    if not paths:
        raise InputError(f"{folder} holds no images ({', '.join(_SUFFIXES)})")
    size = max(example.shape[0], 1)
    for start in range(0, len(paths), size):
        yield torch.stack([_read(path, example) for path in paths[start : start + size]])


def _read(path: Path, example: Tensor) -> Tensor:
    image = _pillow()
    channels, height, width = example.shape[1:]
    try:
        with image.open(path) as file:
            size = file.size
            picture = _cut(file.convert(_MODES[channels]), width / height)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path} cannot be read as an image: {error}") from error
    if picture.width < width or picture.height < height:
        raise InputError(_too_small(path, size, picture.size, example))
    picture = picture.resize((width, height), image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(picture)).view(height, width, channels)
    return pixels.permute(2, 0, 1).float() / 127.5 - 1


def _too_small(path: Path, size: tuple[int, int], cut: tuple[int, int], example: Tensor) -> str:
    batch, channels, height, width = example.shape
    return (
        f"{path} is {size[0]} wide and {size[1]} high, and the model takes images {width} wide and "
        f"{height} high: gfx scales images down, never up. Take larger images, or a smaller input "
        f"if the model allows one: --input {batch}x{channels}xHxW (in Python example_inputs) with "
        f"at most {cut[1]}x{cut[0]} for HxW"
    )


def _cut(picture: Any, ratio: float) -> Any:
    """Cuts the middle of a picture to a ratio of width to height."""
    width, height = picture.size
    kept_width, kept_height = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return picture.crop((left, top, left + kept_width, top + kept_height))


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError(
            "reading images needs Pillow, which is not installed: pip install "
            "'gfx-compiler[images]'"
        ) from error
    return Image
