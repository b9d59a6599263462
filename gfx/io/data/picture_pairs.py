"""Tells pairs, A|B, two pictures side by side in one file, from pictures that are merely wide.

1. A pair is twice as wide as high, and a folder of pairs holds nothing else.
2. A picture goes on across its middle: there, neighbouring columns differ little, and no more than
   columns do elsewhere in it. In a folder of pairs most do not go on.
"""

from pathlib import Path

import numpy as np

from gfx.errors import InputError
from gfx.io.data.picture_files import PictureFile, picture_size, read_picture
from gfx.io.guards import printable

__all__ = ["first_pair", "is_pair"]

_LOOKED_AT = 8  # pictures whose middle is looked at
_LITTLE = 0.1  # mean difference of two columns, black to white being 1
_TIMES = 3  # as much as columns differ elsewhere


def is_pair(size: tuple[int, int]) -> bool:
    """Whether a picture has the shape of a pair.

    Example:
        >>> is_pair((512, 256)), is_pair((512, 257))
        (True, False)
    """
    width, height = size
    return height > 0 and width == 2 * height


def first_pair(paths: list[Path], least: int) -> str | None:
    """Describes the first picture, if all look like pairs; None if they do not.

    `least` is the height in pixels below which pictures are too small for the model anyway.
    """
    sizes = {path: size for path in paths if all(size := picture_size(path))}
    if not sizes or not all(is_pair(size) for size in sizes.values()):
        return None
    first, (width, height) = next(iter(sizes.items()))
    if height < least:
        return None
    looked = [_goes_on(path) for path in list(sizes)[:_LOOKED_AT]]
    known = [goes_on for goes_on in looked if goes_on is not None]
    if not known or sum(known) > len(known) / 2:
        return None
    others = ", as are the others" if len(sizes) > 1 else ""
    return f"{printable(first)} is {width} wide and {height} high, twice as wide as high{others}"


def _goes_on(path: Path) -> bool | None:
    """Whether a picture goes on across its middle (rule 2); None if it cannot be read."""
    try:
        picture = read_picture(path)
    except InputError:  # named when its turn comes
        return None
    return _steps(picture)


def _steps(picture: PictureFile) -> bool:
    columns = np.stack(picture.planes(3))
    steps = np.abs(np.diff(columns, axis=2)).mean((0, 1))
    middle = columns.shape[2] // 2 - 1
    elsewhere = float(np.median(np.delete(steps, middle))) if steps.size > 1 else 0.0
    return bool(steps[middle] <= min(_LITTLE, _TIMES * elsewhere + 1e-3))
