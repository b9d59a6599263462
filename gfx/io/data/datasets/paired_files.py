"""Pairs the pictures of two folders by name, and checks the sizes of pictures before they are read.

1. Partners have the same path in their folders but for the suffix: `a/7.jpg` and `b/7.png`.
2. Sizes are those of the headers: no pixel is read.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gfx.errors import InputError
from gfx.io.data.datasets.picture_set import PictureSet, Size, listed
from gfx.io.data.picture_paths import check_folder, picture_paths
from gfx.io.guards import printable

__all__ = ["check_alike", "check_sizes", "names_of", "partners"]

_LOOKED_AT = 20_000  # files whose headers are read: a second or two


def names_of(folder: Path, paths: Sequence[Path]) -> list[str]:
    """Names pictures by their paths in a folder, without suffixes.

    Example:
        >>> names_of(Path("a"), [Path("a/x/7.jpg")])
        ['x/7']
    """
    return [path.relative_to(folder).with_suffix("").as_posix() for path in paths]


def partners(first: Path, second: Path) -> tuple[list[Path], list[Path]]:
    """Lists the pictures of two folders, partners at equal places (rule 1).

    Raises: InputError if one has no partner, or two are of one name.
    """
    found = []
    for folder in (first, second):
        check_folder(folder)
        paths = picture_paths(folder)
        names = names_of(folder, paths)
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise InputError(
                f"{printable(folder)} holds several pictures of one name but for the suffix: "
                f"{listed(twice)}; which is the partner is not known: keep one of each"
            )
        found.append(dict(zip(names, paths, strict=True)))
    a, b = found
    lone = [f"{first.name}/{n}" for n in sorted(a.keys() - b.keys())]
    lone += [f"{second.name}/{n}" for n in sorted(b.keys() - a.keys())]
    if lone:
        raise InputError(
            f"{len(lone)} of {len(a) + len(b)} pictures of {printable(first)} and "
            f"{printable(second)} have no partner of the same name: {listed(lone)}; remove or "
            "rename them, or take the task unpaired"
        )
    return list(a.values()), [b[name] for name in a]


def check_sizes(pictures: PictureSet, crop: Size | None) -> Size | None:
    """Checks that all pictures are readable, and as large as a crop (rule 2).

    Without a crop they must be of one size, which is returned; None where they are cut.

    Raises: InputError naming files and sizes.
    """
    sizes = {i: pictures.shown_size(i) for i in range(min(len(pictures), _LOOKED_AT))}
    broken = [pictures.paths[i].name for i, size in sizes.items() if 0 in size]
    if broken:
        folder = printable(pictures.paths[0].parent)
        raise InputError(
            f"{len(broken)} of {len(sizes)} pictures of {folder} cannot be read: {listed(broken)}; "
            "remove them, or copy them again"
        )
    if crop is None:
        return _one_size(pictures, sizes)
    small = [
        f"{pictures.paths[i].name} {size[1]}x{size[0]}"
        for i, size in sizes.items()
        if size[0] < crop[0] or size[1] < crop[1]
    ]
    if small:
        raise InputError(
            f"{len(small)} of {len(sizes)} pictures are smaller than the crop {crop[1]}x{crop[0]} "
            f"(width x height): {listed(small)}; give larger pictures, or a smaller crop"
        )
    return None


def check_alike(first: PictureSet, second: PictureSet) -> None:
    """Checks that partners are of one size, once they are scaled (rule 2).

    Raises: InputError naming files and sizes.
    """
    unlike = []
    for i in range(min(len(first), _LOOKED_AT)):
        (a, b), name = (first.shown_size(i), second.shown_size(i)), first.paths[i].name
        if first.covering(a) != second.covering(b):
            unlike.append(f"{name} {a[1]}x{a[0]} and {b[1]}x{b[0]}")
    if unlike:
        raise InputError(
            f"{len(unlike)} of {len(first)} pairs are not of one size (width x height): "
            f"{listed(unlike)}; input and target of a pair show the same, so scale one of them"
        )


def _one_size(pictures: PictureSet, sizes: dict[int, Size]) -> Size:
    if pictures.size is not None:
        return pictures.size
    different = {size: pictures.paths[i].name for i, size in reversed(sizes.items())}
    if len(different) > 1:
        said = [f"{name} {w}x{h}" for (h, w), name in sorted(different.items())]
        raise InputError(
            f"the pictures are of {len(different)} sizes: {listed(said)}; give size=, to "
            "which all are scaled and cut"
        )
    return next(iter(different))
