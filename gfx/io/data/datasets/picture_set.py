"""Reads pictures by number, decoded to 8 bits; what fits is decoded once and kept.

1. A picture is scaled to cover `size` and keeps its proportions; what is cut from it, others say.
2. Every value is rounded to 8 bits, whether it is kept or not: keeping changes no value.
3. A file that has changed since the set was made, or that vanishes, is an error that names it:
   examples that others write to are not the same twice.
4. Several threads may read at once.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gfx.errors import InputError
from gfx.io.data.datasets.label_maps import read_label_map, resized_map
from gfx.io.data.picture_files import PictureFile, picture_size, read_picture
from gfx.io.data.pillow_images import pillow
from gfx.io.guards import printable

__all__ = ["NAMED", "PictureSet", "Size", "listed"]

Size = tuple[int, int]  # height and width
Stamp = tuple[int, int]

NAMED = 5  # files that a message names
_GONE: Stamp = (-1, -1)


class PictureSet:
    """Pictures by number: `PictureSet(paths, channels=3, size=(64, 64))[0]` is (3, H, W), 8 bits.

    `half` is of pairs, A|B side by side in one file: "left" or "right". `keep` bounds the bytes
    that are kept. With `labels` the files are maps of so many labels, and a picture is (1, H, W).

    Example:
        >>> len(PictureSet([Path("a.png"), Path("b.png")]))
        2
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        channels: int = 3,
        size: Size | None = None,
        half: str | None = None,
        keep: int = 0,
        labels: int = 0,
    ) -> None:
        self.paths = list(paths)
        self.channels, self.size, self.half, self.keep = channels, size, half, keep
        self.labels = labels
        self._stamps = [_stamp(path) for path in self.paths]
        self._kept: dict[int, Tensor] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Returns a picture.

        Shapes: (channels, H, W), uint8.
        Raises: InputError naming the file, if it is damaged or has changed (rule 3).
        """
        found = self._kept.get(index)
        if found is not None:
            return found
        made = self._decoded(index)
        with self._lock:
            if index not in self._kept and self._bytes + made.numel() <= self.keep:
                self._kept[index] = made
                self._bytes += made.numel()
        return made

    def shown_size(self, index: int) -> Size:
        """Reads height and width of a picture, or of its half; (0, 0) if it cannot be read."""
        width, height = picture_size(self.paths[index])
        return height, width if self.half is None else width // 2

    def covering(self, shown: Size) -> Size:
        """Returns the size to which a picture of a size is scaled (rule 1)."""
        return shown if self.size is None or 0 in shown else _covering(self.size, *shown)

    def _decoded(self, index: int) -> Tensor:
        path = self.paths[index]
        self._check_unchanged(index)
        try:
            found = read_label_map(path, self.labels) if self.labels else read_picture(path)
        except InputError:
            self._check_unchanged(index)
            raise
        self._check_unchanged(index)
        return self._map(found) if isinstance(found, np.ndarray) else self._colours(found)

    def _map(self, numbers: NDArray[np.uint8]) -> Tensor:
        if self.size is not None:
            numbers = resized_map(numbers, *_covering(self.size, *numbers.shape))
        return torch.from_numpy(numbers[None].copy())

    def _colours(self, picture: PictureFile) -> Tensor:
        planes = [_resized(p, self.size) for p in self._part(picture).planes(self.channels)]
        values = np.clip(np.stack(planes) * 255, 0, 255).round().astype(np.uint8)
        return torch.from_numpy(values)

    def _part(self, picture: PictureFile) -> PictureFile:
        if self.half is None:
            return picture
        width, height = picture.size
        return picture.cut(0 if self.half == "left" else width // 2, 0, width // 2, height)

    def _check_unchanged(self, index: int) -> None:
        now, path = _stamp(self.paths[index]), self.paths[index]
        if now == self._stamps[index] and now != _GONE:
            return
        what = "has gone" if now == _GONE else "has changed"
        raise InputError(
            f"{printable(path)} {what} since the folder was listed: the data is being written to; "
            "wait until it is complete, or copy it to a folder that stays as it is"
        )


def listed(names: Sequence[object], most: int = NAMED) -> str:
    """Names the first few, and how many more there are.

    Example:
        >>> listed("abcdefg")
        'a, b, c, d, e and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(printable(name) for name in names[:most]) + more


def _resized(plane: np.ndarray, size: Size | None) -> np.ndarray:
    """Scales a plane to cover a size (rule 1)."""
    height, width = plane.shape
    if size is None:
        return plane
    new = _covering(size, height, width)
    if new == (height, width):
        return plane
    image = pillow()
    whole = image.fromarray(np.ascontiguousarray(plane))  # floats: nothing is rounded
    return np.asarray(whole.resize((new[1], new[0]), image.Resampling.BICUBIC))


def _covering(size: Size, height: int, width: int) -> Size:
    ratio = max(size[0] / height, size[1] / width)
    return max(size[0], round(height * ratio)), max(size[1], round(width * ratio))


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return _GONE
    return found.st_size, found.st_mtime_ns
