"""Reads a folder of images as data.

1. All pictures of the folder and its subfolders are read, in the order of their paths; links are
   followed, once. Hidden files and what systems leave behind (`._a.jpg`, `__MACOSX`) are none.
2. A picture that cannot be read is left out and named in the report, as long as at least half of
   those that were tried are good.
3. A picture is cut to the shape of the model's input from its middle, and scaled down to its size,
   never up: a model is judged wrongly by blurred images.
4. Pairs, A|B, cut from the middle would be half of A beside half of B. So where all pictures look
   like pairs (gfx/io/data/picture_pairs.py), `half` must say which half is meant.
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from gfx.errors import InputError
from gfx.io.data.picture_files import PictureFile, read_picture
from gfx.io.data.picture_pairs import first_pair, is_pair
from gfx.io.data.picture_paths import check_folder, picture_paths
from gfx.io.data.pillow_images import pillow
from gfx.io.data.value_range import Range, RangeFound, find_range, parse_range
from gfx.io.guards import printable
from gfx.ir.ambient_modes import shielded
from gfx.ir.program import Program

__all__ = ["Half", "ImageFolder", "images", "with_range"]

Half = Literal["left", "right", "middle"]

_CHANNELS = (1, 3, 4)  # grey, colours, colours and transparency
_HALVES = ("left", "right", "middle")
_TRIED = 32  # pictures, before a folder of many damaged ones is given up; also looked at for pairs
_LEFT_OUT = "left out"
_CUT = "twice as wide as high, cut in the middle"
_NAMED = 3  # files that are named where there are many

_logger = logging.getLogger(__name__)


@shielded
@dataclass(frozen=True)
class ImageFolder:
    """A folder of images as data: `gfx.images("photos", range=(0, 1))`.

    `range` is what black and white become; None finds it by the model (gfx/io/data/value_range.py).
    `half` is of pairs, A|B, the half that the model takes, or "middle", if they are none.

    Raises: InputError if there is no such folder, or a field is wrong.

    Example:
        >>> ImageFolder("/no/photos")
        Traceback (most recent call last):
        gfx.errors.InputError: /no/photos is no folder: it does not exist; give a folder of images
    """

    path: str | os.PathLike[str]
    range: Any = None  # (black, white), or text such as "0..1"
    half: Half | None = None
    # what happened to which files, while they were read; for the report
    log: dict[str, dict[str, None]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_folder(self.path)
        if self.range is not None:
            object.__setattr__(self, "range", parse_range(self.range))
        if self.half not in (None, *_HALVES):
            raise InputError(f"half={self.half!r} is none of {', '.join(_HALVES)}")

    def ranged(
        self, program: Program, model: nn.Module | None = None
    ) -> "tuple[ImageFolder, RangeFound]":
        """Returns the folder with its range, and what tells it."""
        if self.range is not None:
            low, high = self.range
            return self, RangeFound(low, high, "was asked for")
        found = find_range(program, model)
        return replace(self, range=(found.low, found.high)), found

    def batches(self, example: Tensor) -> Iterator[Tensor]:
        """Reads batches in the shape of an example; the last may be smaller (rules 1 to 4).

        Shapes: those of the example, (N, C, H, W).
        Raises: InputError if the example is no image, the folder holds none, a picture is too
            small or may be a pair, or more than half cannot be read.
        """
        folder = Path(self.path)
        if example.ndim != 4 or example.shape[1] not in _CHANNELS:
            shape = "x".join(map(str, example.shape))
            raise InputError(
                f"{printable(folder)} holds images, and the model takes {shape}, which is none "
                "(N, C, H, W with 1, 3 or 4 channels); give data= in Python"
            )
        paths = picture_paths(folder)
        pillow()
        self._check_pairs(paths, example)
        size = max(example.shape[0], 1)
        waiting: list[Tensor] = []
        for value in self._good(paths, example):
            waiting.append(value)
            if len(waiting) == size:
                yield torch.stack(waiting)
                waiting = []
        if waiting:
            yield torch.stack(waiting)

    def told(self) -> tuple[str, ...]:
        """States what was done to which files, in sentences for a report."""
        return tuple(
            f"{_count(len(names))} of {printable(self.path)}: {what} ({_named(list(names), '; ')})"
            for what, names in self.log.items()
        )

    def _good(self, paths: list[Path], example: Tensor) -> Iterator[Tensor]:
        """Reads pictures, and leaves out those that cannot be read (rule 2)."""
        low, high = self.range or (-1.0, 1.0)
        good = 0
        reasons: list[str] = []
        held: list[Tensor] = []
        for number, path in enumerate(paths, 1):
            try:
                read = read_picture(path)
            except InputError as error:
                reasons.append(str(error))
                self._note(_LEFT_OUT, str(error))
            else:
                good += 1
                for remark in read.remarks:
                    self._note(remark, path.name)
                held.append(self._values(read, path, example, low, high))
            last = number == len(paths) or number >= _TRIED
            if len(reasons) > good and last:
                raise InputError(_damaged(Path(self.path), reasons, number))
            if len(reasons) <= good:
                yield from held
                held = []

    def _values(
        self, read: PictureFile, path: Path, example: Tensor, low: float, high: float
    ) -> Tensor:
        """Brings one picture into the shape of the example and into the range (rule 3)."""
        channels, height, width = example.shape[1:]
        picture = self._half_of(read) if is_pair(read.size) else read
        cut = _cut(picture, width / height)
        if is_pair(picture.size) and cut.size[0] < picture.size[0] and self.half is None:
            self._note(_CUT, path.name)
        if cut.size[0] < width or cut.size[1] < height:
            raise InputError(_too_small(path, read.size, cut.size, example))
        image = pillow()
        planes = []
        for plane in cut.planes(channels):
            if cut.size != (width, height):
                whole = image.fromarray(np.ascontiguousarray(plane))  # floats: nothing is rounded
                plane = np.asarray(whole.resize((width, height), image.Resampling.BICUBIC))
            planes.append(torch.from_numpy(np.array(plane, np.float64)).clamp(0, 1))
        values: Tensor = torch.stack(planes) * (high - low) + low
        return values.float()

    def _half_of(self, picture: PictureFile) -> PictureFile:
        width, height = picture.size
        if self.half not in ("left", "right"):
            return picture
        return picture.cut(0 if self.half == "left" else width // 2, 0, width // 2, height)

    def _check_pairs(self, paths: list[Path], example: Tensor) -> None:
        """Asks which half is meant where every picture may be a pair (rule 4)."""
        height, width = example.shape[2:]
        if self.half is not None or width >= 2 * height:  # a wide model takes them whole
            return
        found = first_pair(paths[:_TRIED], height)
        if found is not None:
            raise InputError(
                f"{found}: two pictures side by side, A|B, or one that is wide? Say which half the "
                "model takes, left or right, or middle if they are no pairs: --half left (in "
                "Python data=gfx.images(folder, half='left'))"
            )

    def _note(self, what: str, name: str) -> None:
        """Notes what was done to a file; the log says so at once."""
        names = self.log.setdefault(what, {})
        if printable(name) not in names:
            names[printable(name)] = None
            level = logging.WARNING if what in (_LEFT_OUT, _CUT) else logging.INFO
            _logger.log(level, "%s: %s", printable(name), what)


def images(
    folder: Path, example: Tensor, range: Range = (-1.0, 1.0), half: Half | None = None
) -> Iterator[Tensor]:
    """Reads the images of a folder in the shape of an example, in a range.

    Shapes: those of the example, (N, C, H, W).
    Raises: InputError as `ImageFolder` does.
    """
    return ImageFolder(folder, range, half).batches(example)


def with_range(
    data: Any, range: Any, program: Program, model: nn.Module | None = None
) -> tuple[Any, RangeFound | None]:
    """Returns data with the range of its images, if it is a folder, and what tells the range.

    Raises: InputError if a range is given for data that are values already.
    """
    if isinstance(data, str | os.PathLike):
        data = ImageFolder(data, range)
    elif isinstance(data, ImageFolder):
        # the log is that of this use alone
        data = replace(data, log={}, range=data.range if range is None else range)
    elif range is not None:
        kind = "no data" if data is None else f"a {type(data).__name__}"
        raise InputError(
            f"range={range!r} is for a folder of images, and data is {kind}; leave it out, or give "
            "data=gfx.images(folder)"
        )
    else:
        return data, None
    images = [x for x in program.example_inputs if isinstance(x, Tensor)]
    return data.ranged(program, model) if len(images) == 1 else (data, None)


def _cut(picture: PictureFile, ratio: float) -> PictureFile:
    """Cuts the middle of a picture to a ratio of width to height."""
    width, height = picture.size
    kept_width = max(min(width, round(height * ratio)), 1)
    kept_height = max(min(height, round(width / ratio)), 1)
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return picture.cut(left, top, kept_width, kept_height)


def _too_small(path: Path, size: tuple[int, int], cut: tuple[int, int], example: Tensor) -> str:
    batch, channels, height, width = example.shape
    return (
        f"{printable(path)} is {size[0]} wide and {size[1]} high, and the model takes images "
        f"{width} wide and {height} high: gfx scales images down, never up. Take larger images, "
        f"or a smaller input if the model allows one: --input {batch}x{channels}xHxW (in Python "
        f"example_inputs) with at most {cut[1]}x{cut[0]} for HxW"
    )


def _damaged(folder: Path, reasons: list[str], tried: int) -> str:
    if tried == 1:
        return reasons[0]
    return (
        f"{len(reasons)} of the first {tried} images of {printable(folder)} cannot be read: "
        f"{_named(reasons, '; ')}"
    )


def _named(names: list[str], between: str = ", ") -> str:
    more = f"{between}… {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return between.join(names[:_NAMED]) + more


def _count(number: int) -> str:
    return "1 image" if number == 1 else f"{number} images"
