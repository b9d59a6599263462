"""Reads a file whole, within bounds; never waits for a pipe, nor reads a device without end."""

import os
import stat
from os import PathLike

from gfx.errors import ArchiveError
from gfx.io.guards import printable, unreachable

__all__ = ["read_regular"]

# a pipe is opened at once, and then refused; Windows has no such flag
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_regular(path: str | PathLike[str], most: int, what_to_do: str = "") -> bytes:
    """Returns the content of a regular file of at most so many bytes.

    `what_to_do` is said to whoever cannot have it.

    Raises: ArchiveError if it is a folder, a device, a pipe, too large, or cannot be read.

    Example:
        >>> read_regular("/dev/null", 10)
        Traceback (most recent call last):
        gfx.errors.ArchiveError: /dev/null is no regular file
    """
    said = printable(path)
    ends = f"; {what_to_do}" if what_to_do else ""
    try:
        with open(os.open(path, _FLAGS), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ArchiveError(f"{said} is no regular file{ends}")
            size = os.fstat(file.fileno()).st_size
            if size > most:
                raise ArchiveError(
                    f"{said} has {size:,} bytes; at most {most:,} are expected{ends}"
                )
            return file.read(size)
    except (OSError, ValueError) as error:
        raise ArchiveError(f"{said} {unreachable(path, error)}{ends}") from error
