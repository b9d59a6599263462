"""Writes files that appear whole, and together, or not at all.

1. Each is first written to a file without a name in the same folder, and out to the disk. A process
   that is killed leaves nothing there.
2. Then all get their names at once: nothing else is done between the first and the last. If one
   cannot be named, those before it become what they were.
3. An older file is replaced by a rename, for which the new one has a hidden name for a moment.
   Where the file system has no files without names, hidden ones stand in from the beginning. What
   a killed process leaves of these, the next write to the same place removes.
"""

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from gfx.errors import ArchiveError
from gfx.io.guards import printable, writing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["check_writable", "write_atomic", "write_files"]

Name = str | os.PathLike[str]
Write = Callable[[BinaryIO], object]

_NAMELESS = getattr(os, "O_TMPFILE", None)
# how file systems say that they have no files without names
_NO_NAMELESS = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.ENOSYS)


def check_writable(path: Name) -> Path:
    """Checks that a file can be written at a path, and returns the path with links followed.

    Call it before long work. It leaves nothing in the folder, whenever it is stopped.

    Raises: ArchiveError if the folder is missing or not writable, or the path is no plain file.

    Example:
        >>> check_writable("/no/such/folder/small.gfx")
        Traceback (most recent call last):
        gfx.errors.ArchiveError: cannot write /no/such/folder/small.gfx: there is no folder ...
    """
    said = f"cannot write {printable(path)}"
    with writing(path):
        target = Path(os.path.realpath(path))
        if not target.parent.is_dir():
            folder = printable(target.parent)
            raise ArchiveError(f"{said}: there is no folder {folder}; create it first")
        with suppress(FileNotFoundError):
            target.stat()  # a circle of links, a name that is too long
        if target.is_dir():
            raise ArchiveError(f"{said}: it is a folder; name a file in it")
        if target.exists() and not target.is_file():
            raise ArchiveError(f"{said}: it is a device or a pipe; name a plain file")
        _Pending(path, target).close()
    return target


def write_atomic(path: Name, write: Write) -> None:
    """Writes one file, as `write_files` does.

    Raises: ArchiveError if it cannot be written; an older file keeps its content then.
    """
    write_files({path: write})


def write_files(files: Mapping[Name, Write]) -> None:
    """Writes several files: all appear, each whole, or none.

    On any failure, a full disk too, nothing is left behind and older files keep their content.

    Raises: ArchiveError if one cannot be written.
    """
    with ExitStack() as stack:
        pending = []
        for path, write in files.items():
            target = check_writable(path)
            with writing(path):
                _tidy(target)
                made = _Pending(path, target)
            stack.callback(made.close)
            made.fill(write)
            pending.append(made)
        for made in pending:
            made.prepare(alone=len(pending) == 1)
        try:
            for made in pending:
                made.appear()
        except BaseException:  # an interrupt too
            for made in pending:
                made.withdraw()
            raise


class _Pending:
    """A file that is written and has no name yet, or a hidden one."""

    def __init__(self, path: Name, target: Path) -> None:
        self.path, self.target = path, target
        self.hidden: Path | None = None  # where it is until it appears
        self.older: Path | None = None  # where the older file is kept meanwhile
        self.locks: list[int] = []
        self.named = False
        self.file = self._opened()

    def fill(self, write: Write) -> None:
        """Writes the content, and waits until the disk has it."""
        watched = _Watched(self.file)
        with writing(self.path):
            try:
                write(cast(BinaryIO, watched))
                self.file.flush()
                os.fsync(self.file.fileno())
            except Exception as error:
                # torch.save says of a full disk that its writer is broken
                raise watched.error or error from error

    def prepare(self, *, alone: bool) -> None:
        """Does all that may fail before the file appears."""
        with writing(self.path):
            if not self.target.exists():
                return
            if self.hidden is None:
                self.hidden = _hidden(self.target)
                self._link(self.hidden)
            if not alone:
                kept = _hidden(self.target)
                self.locks.append(os.open(self.target, os.O_RDONLY))
                _lock(self.locks[-1])
                os.link(self.target, kept)
                self.older = kept

    def appear(self) -> None:
        """Gives the file its name."""
        with writing(self.path):
            if self.hidden is None:
                self._link(self.target)
            else:
                if fcntl is None:
                    self.file.close()
                os.replace(self.hidden, self.target)
            self.named = True

    def withdraw(self) -> None:
        """Brings back what was there."""
        if self.named and self.older is not None:
            os.replace(self.older, self.target)
        elif self.named:
            self.target.unlink(missing_ok=True)

    def close(self) -> None:
        """Ends the file; one without a name is gone then."""
        with suppress(OSError):  # what it still holds back belongs on a full disk
            self.file.close()
        for path in (self.hidden, self.older):
            if path is not None:
                path.unlink(missing_ok=True)
        for lock in self.locks:
            os.close(lock)

    def _opened(self) -> BinaryIO:
        folder = self.target.parent
        if _NAMELESS is not None and Path("/proc/self/fd").is_dir():
            try:
                found = os.open(folder, _NAMELESS | os.O_RDWR | os.O_CLOEXEC, 0o666)
            except OSError as error:
                if error.errno not in _NO_NAMELESS:
                    raise
            else:
                _lock(found)
                return os.fdopen(found, "w+b")
        while True:
            self.hidden = _hidden(self.target)
            file = open(self.hidden, "x+b")  # noqa: SIM115 - closed by close()
            _lock(file.fileno(), wait=True)
            if self.hidden.exists():  # no other run took it for a leftover before it was locked
                return file
            file.close()

    def _link(self, name: Path) -> None:
        """Gives the file without a name a first one."""
        folder = os.open(name.parent, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            # the descriptor makes Python follow the link in /proc
            os.link(
                f"/proc/self/fd/{self.file.fileno()}",
                name.name,
                dst_dir_fd=folder,
                follow_symlinks=True,
            )
        finally:
            os.close(folder)


class _Watched:
    """A file that remembers why it could not be written, as others hide it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Writes data."""
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _hidden(target: Path) -> Path:
    return target.with_name(f"{_prefix(target)}{secrets.token_hex(6)}.tmp")


def _prefix(target: Path) -> str:
    """Begins the hidden names of a target: short, whatever its own name is."""
    return f".gfx-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}-"


def _tidy(target: Path) -> None:
    """Removes what killed processes left of this target (rule 3); those that run hold a lock."""
    for path in target.parent.glob(f"{_prefix(target)}*.tmp"):
        with suppress(OSError):
            found = os.open(path, os.O_RDONLY)
            try:
                if _lock(found):
                    path.unlink(missing_ok=True)
            finally:
                os.close(found)


def _lock(descriptor: int, *, wait: bool = False) -> bool:
    """Locks a file for as long as it is open; False if another process has it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True
