"""How a task's images are opened and seen: files are scaled and cut, others are taken as they are.

1. Pictures of files are scaled to cover `size` and cut to `crop`: anywhere if `crop` was given,
   else from the middle to `size`. A number stands for a square.
2. Values of 8 bits become `range`; floats are taken as they are.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfx.errors import InputError
from gfx.io.data.datasets.paired_files import check_sizes
from gfx.io.data.datasets.picture_set import PictureSet, Size
from gfx.io.data.image_folder import ImageFolder
from gfx.io.data.picture_paths import check_folder, picture_paths
from gfx.io.data.value_range import Range, parse_range
from gfx.train.tasks.example_source import ExampleSource
from gfx.train.tasks.open_rows import PictureRows, open_rows
from gfx.train.tasks.views import Views

__all__ = ["ImageOptions"]

Lengths = int | tuple[int, int] | None


@dataclass(frozen=True)
class ImageOptions:
    """How images are seen: `size` and `crop` are height and width, or one number for both.

    Raises: InputError if a field is no size, or no range.
    """

    size: Lengths = None
    crop: Lengths = None
    flip: bool = True
    range: Any = (-1.0, 1.0)  # of what the generator takes
    target_range: Any = None  # of what it makes; None: the same
    channels: int = 3  # of what it takes, where that are pictures of files
    target_channels: int = 3
    labels: int = 0  # of maps of labels: how many the generator takes, a channel for each
    half: str | None = None  # of pictures side by side: "left" or "right"
    mark: str = ""  # begins the keys of examples

    def __post_init__(self) -> None:
        for name in ("size", "crop"):
            object.__setattr__(self, name, _lengths(name, getattr(self, name)))
        size, crop = self.cover, self.cut
        if size and crop and (size[0] < crop[0] or size[1] < crop[1]):
            raise InputError(
                f"crop={crop[0]}x{crop[1]} is larger than size={size[0]}x{size[1]} (height x "
                "width); pictures are scaled to size first, then cut"
            )

    @property
    def cover(self) -> Size | None:
        """The size that pictures are scaled to cover."""
        return self.size  # type: ignore[return-value]

    @property
    def cut(self) -> Size | None:
        """The size that is cut out."""
        return self.size if self.crop is None else self.crop  # type: ignore[return-value]

    @property
    def views(self) -> Views:
        """The views of training (rule 1)."""
        return Views(self.cut, self.flip, anywhere=self.crop is not None)

    @property
    def given(self) -> Range:
        """The range of inputs."""
        return parse_range(self.range)

    @property
    def made(self) -> Range:
        """The range of targets."""
        return self.given if self.target_range is None else parse_range(self.target_range)

    def pictures(
        self, paths: list[Path], *, target: bool = False, half: str | None = None
    ) -> PictureSet:
        """Opens files, whose sizes are checked.

        Raises: InputError naming files and sizes.
        """
        channels = self.target_channels if target else self.channels
        labels = 0 if target else self.labels
        found = PictureSet(paths, channels=channels, size=self.cover, half=half, labels=labels)
        check_sizes(found, self.cut)
        return found

    def source(self, data: Any, *, target: bool = False) -> ExampleSource:
        """Opens a folder, or whatever else holds images.

        Raises: InputError if it cannot be opened.
        """
        half = self.half
        if isinstance(data, ImageFolder):
            data, half = data.path, half or data.half
        if isinstance(data, str | os.PathLike):
            check_folder(data)
            paths = picture_paths(Path(data))
            return PictureRows(self.pictures(paths, target=target, half=half), mark=self.mark)
        if self.size is not None and not isinstance(data, ExampleSource):
            raise InputError(
                f"size={self.size} scales pictures of files, and data is a {type(data).__name__}; "
                "scale its images before, or give crop="
            )
        return open_rows(data)


def _lengths(name: str, value: Any) -> Size | None:
    """Reads a size: a number for a square, or height and width."""
    if value is None:
        return None
    pair = (value, value) if isinstance(value, int) else value
    good = isinstance(pair, tuple | list) and len(pair) == 2
    if not good or not all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in pair):
        raise InputError(f"{name}={value!r} is no size; give pixels, as 64, or (height, width)")
    return pair[0], pair[1]
