"""Lists the pictures of a folder, and says of what is no folder why."""

import os
import stat
from pathlib import Path

from gfx.errors import InputError
from gfx.io.guards import printable, unreachable

__all__ = ["SUFFIXES", "check_folder", "picture_paths"]

SUFFIXES = tuple(
    ".bmp .gif .jfif .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tga .tif .tiff .webp .avif".split()
)
_LEFT_BEHIND = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found")


def check_folder(path: str | os.PathLike[str]) -> None:
    """Checks that a path is a folder.

    Raises: InputError saying what it is, or why it leads nowhere.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        why = unreachable(path, error).partition(";")[0]
        raise InputError(
            f"{printable(path)} is no folder: it {printable(why)}; give a folder of images"
        ) from error
    if not stat.S_ISDIR(mode):
        raise InputError(
            f"{printable(path)} is no folder but a file; give the folder of the images"
        )


def picture_paths(folder: Path) -> list[Path]:
    """Lists the pictures of a folder and its subfolders, in the order of their paths.

    Links are followed, once. Hidden files and what systems leave behind are left out.

    Raises: InputError if there are none, saying what there is.
    """
    found: list[Path] = []
    others: set[str] = set()
    visited: set[tuple[int, int]] = set()
    for at, folders, names in os.walk(folder, onerror=_unlistable, followlinks=True):
        here = os.stat(at)
        if (here.st_dev, here.st_ino) in visited:
            folders.clear()  # a link back, or a second one to the same folder
            continue
        visited.add((here.st_dev, here.st_ino))
        folders[:] = sorted(f for f in folders if f[0] != "." and f not in _LEFT_BEHIND)
        for name in names:
            path, suffix = Path(at, name), Path(name).suffix.lower()
            if name.startswith("."):
                continue
            if suffix in SUFFIXES and _may_be_read(path):
                found.append(path)
            elif suffix:
                others.add(suffix)
    if not found:
        there = f"; there are {', '.join(sorted(others)[:8])}" if others else ""
        raise InputError(f"{printable(folder)} holds no images ({', '.join(SUFFIXES)}){there}")
    return sorted(found)


def _unlistable(error: OSError) -> None:
    reason = (error.strerror or str(error)).lower()
    raise InputError(f"{printable(error.filename)} cannot be listed: {reason}") from error


def _may_be_read(path: Path) -> bool:
    """Whether a path is no pipe or device, which would keep us waiting.

    A link to nothing may: who reads it names it.
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True
