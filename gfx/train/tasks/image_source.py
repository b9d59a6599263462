"""Images by number, whatever holds them: a folder, a tensor, a Dataset, a list.

1. Pictures of files are scaled so that the shorter side is `size`, then cut: from the middle, or
   for training anywhere, to `crop`.
2. Small sets are decoded once and kept, up to `KEPT` bytes; the values are the same either way.
3. A file that has changed since the run began is an error that names it.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gfx.errors import InputError
from gfx.io.data.image_folder import ImageFolder
from gfx.io.data.picture_files import read_picture
from gfx.io.data.picture_paths import check_folder, picture_paths
from gfx.io.data.pillow_images import pillow
from gfx.io.guards import printable

__all__ = ["ImageSource"]

KEPT = 1 << 30
Half = str | None


class ImageSource:
    """Images by number: `count` of them, each (C, H, W) in a range.

    `names` are of files, "" where there are none.

    Example:
        >>> source = ImageSource.of(torch.zeros(5, 3, 8, 8))
        >>> source.count, source.read(0).shape
        (5, torch.Size([3, 8, 8]))
    """

    def __init__(self, count: int, names: Sequence[str] = ()) -> None:
        self.count = count
        self.names = list(names) or [""] * count

    def read(self, index: int) -> Tensor:
        """Returns an image."""
        raise NotImplementedError

    def part(self, indices: Sequence[int]) -> "ImageSource":
        """Returns some of the images, in that order."""
        return _Part(self, list(indices))

    @staticmethod
    def of(
        data: Any,
        *,
        channels: int = 3,
        size: int | None = None,
        range: tuple[float, float] = (-1.0, 1.0),
        half: Half = None,
    ) -> "ImageSource":
        """Opens images: a folder, a tensor, a Dataset, or a list of tensors.

        Raises: InputError if it is none of these, or holds nothing.
        """
        if isinstance(data, ImageSource):
            return data
        if isinstance(data, ImageFolder):
            data = data.path
        if isinstance(data, str | os.PathLike):
            check_folder(data)
            paths = picture_paths(Path(data))
            return _Files(paths, channels, size, range, half)
        if isinstance(data, Tensor | np.ndarray):
            return _Rows(torch.as_tensor(data))
        if isinstance(data, Dataset) or hasattr(data, "__getitem__") and hasattr(data, "__len__"):
            return _Items(data)
        if isinstance(data, Iterable):
            rows = [row for item in data for row in _images_in(item)]
            return _Items(rows)
        raise InputError(
            f"data is a {type(data).__name__}; give a folder, a tensor (N, C, H, W), a Dataset or a "
            "list of images"
        )


class _Part(ImageSource):
    def __init__(self, whole: ImageSource, indices: list[int]) -> None:
        super().__init__(len(indices), [whole.names[i] for i in indices])
        self.whole, self.indices = whole, indices

    def read(self, index: int) -> Tensor:
        return self.whole.read(self.indices[index])


class _Rows(ImageSource):
    def __init__(self, rows: Tensor) -> None:
        if rows.ndim != 4 or not len(rows):
            shape = "x".join(map(str, rows.shape))
            raise InputError(f"images are a tensor of shape {shape}; give (N, C, H, W), at least 1")
        super().__init__(len(rows))
        self.rows = rows

    def read(self, index: int) -> Tensor:
        return self.rows[index].float()


class _Items(ImageSource):
    """Images of a Dataset; of an item that is a tuple the first is taken."""

    def __init__(self, items: Any) -> None:
        if not len(items):
            raise InputError("data is empty; give at least one image")
        super().__init__(len(items))
        self.items = items

    def read(self, index: int) -> Tensor:
        found = _images_in(self.items[index])
        return found[0].float()


class _Files(ImageSource):
    """Pictures of files (rules 1 to 3)."""

    def __init__(
        self,
        paths: list[Path],
        channels: int,
        size: int | None,
        range: tuple[float, float],
        half: Half,
    ) -> None:
        super().__init__(len(paths), [path.stem for path in paths])
        self.paths, self.channels, self.size, self.range, self.half = (
            paths,
            channels,
            size,
            range,
            half,
        )
        self.stamps = [_stamp(path) for path in paths]
        self._kept: dict[int, Tensor] = {}
        self._bytes = 0

    def read(self, index: int) -> Tensor:
        if index not in self._kept:
            value = self._decoded(index)
            if self._bytes + value.numel() > KEPT:
                return self._scaled(value)
            self._kept[index] = value
            self._bytes += value.numel()
        return self._scaled(self._kept[index])

    def _scaled(self, value: Tensor) -> Tensor:
        low, high = self.range
        return value.float() / 255 * (high - low) + low

    def _decoded(self, index: int) -> Tensor:
        path = self.paths[index]
        if _stamp(path) != self.stamps[index]:
            raise InputError(
                f"{printable(path)} has changed or gone since the run began; give data that nobody "
                "writes to"
            )
        picture = read_picture(path)
        if self.half in ("left", "right"):
            width, height = picture.size
            left = 0 if self.half == "left" else width // 2
            picture = picture.cut(left, 0, width // 2, height)
        planes = picture.planes(self.channels)
        width, height = picture.size
        if self.size is not None and min(width, height) != self.size:
            if min(width, height) < self.size:
                raise InputError(
                    f"{printable(path)} is {width} wide and {height} high, smaller than size "
                    f"{self.size}; give larger images or a smaller size"
                )
            image = pillow()
            ratio = self.size / min(width, height)
            new = max(self.size, round(width * ratio)), max(self.size, round(height * ratio))
            planes = [
                np.asarray(
                    image.fromarray(np.ascontiguousarray(p)).resize(new, image.Resampling.BICUBIC)
                )
                for p in planes
            ]
        whole = torch.from_numpy(np.stack(planes)).clamp(0, 1)
        return (whole * 255).round().to(torch.uint8)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (-1, -1)
    return found.st_size, found.st_mtime_ns


def _images_in(item: Any) -> list[Tensor]:
    """Returns the images of an item: a tensor (C, H, W), a batch of them, or a tuple's first."""
    if isinstance(item, tuple | list) and item:
        item = item[0]
    value = torch.as_tensor(item) if isinstance(item, np.ndarray) else item
    if isinstance(value, Tensor) and value.ndim == 3:
        return [value]
    if isinstance(value, Tensor) and value.ndim == 4:
        return list(value)
    kind = "x".join(map(str, value.shape)) if isinstance(value, Tensor) else type(value).__name__
    raise InputError(f"an item of the data is {kind}; give images, (C, H, W)")
