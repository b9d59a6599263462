"""Names, locks and links of the files that are not there yet, or only for a moment.

A hidden file belongs to the process that holds its lock; what nobody holds was left by a process
that was killed.
"""

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "CAN_LOCK",
    "file_at",
    "hidden_files",
    "hidden_name",
    "journal_name",
    "link_to",
    "lock",
    "nameless",
    "remove_leftovers",
]

CAN_LOCK = fcntl is not None

_PREFIX = ".gfx-"
_HIDDEN, _JOURNAL = ".tmp", ".journal"
_NAMELESS = getattr(os, "O_TMPFILE", None)
# how file systems say that they have no files without names
_NO_NAMELESS = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.ENOSYS)


def hidden_name(target: Path) -> Path:
    """Makes a hidden name beside a file: short, whatever its own name is.

    Example:
        >>> hidden_name(Path("a/small.gfx")).name[:5]
        '.gfx-'
    """
    known = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    return target.with_name(f"{_PREFIX}{known}-{secrets.token_hex(6)}{_HIDDEN}")


def journal_name(folder: Path) -> Path:
    """Makes the name of a journal in a folder."""
    return folder / f"{_PREFIX}{secrets.token_hex(8)}{_JOURNAL}"


def hidden_files(folder: Path, *, journals: bool) -> Iterator[Path]:
    """Iterates over the hidden files in a folder, or over the journals."""
    ending = _JOURNAL if journals else _HIDDEN
    with suppress(OSError), os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.startswith(_PREFIX) and e.name.endswith(ending)]
        yield from (folder / name for name in sorted(names))


def remove_leftovers(folder: Path) -> None:
    """Removes the hidden files that nobody holds."""
    for path in hidden_files(folder, journals=False):
        with suppress(OSError):
            found = os.open(path, os.O_RDONLY)
            try:
                if lock(found):
                    path.unlink(missing_ok=True)
            finally:
                os.close(found)


def nameless(folder: Path) -> BinaryIO | None:
    """Opens a file without a name, locked; None where the file system has none."""
    if _NAMELESS is None or not Path("/proc/self/fd").is_dir():
        return None
    try:
        found = os.open(folder, _NAMELESS | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno not in _NO_NAMELESS:
            raise
        return None
    lock(found)
    return os.fdopen(found, "w+b")


def file_at(path: Path) -> BinaryIO | None:
    """Makes a file at a path, locked; None if somebody took it for a leftover before it was."""
    file = open(path, "x+b")  # noqa: SIM115 - the caller closes it
    lock(file.fileno(), wait=True)
    if path.exists():
        return file
    file.close()
    return None


def link_to(file: BinaryIO, name: Path) -> None:
    """Gives a file without a name a first one."""
    folder = os.open(name.parent, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        # the descriptor makes Python follow the link in /proc
        os.link(
            f"/proc/self/fd/{file.fileno()}", name.name, dst_dir_fd=folder, follow_symlinks=True
        )
    finally:
        os.close(folder)


def lock(descriptor: int, *, wait: bool = False) -> bool:
    """Locks a file for as long as it is open; False if another process has it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True
