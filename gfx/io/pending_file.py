"""A file that is written and has no name yet, or a hidden one."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from gfx.io.guards import writing
from gfx.io.hidden_files import CAN_LOCK, file_at, hidden_name, link_to, lock, nameless
from gfx.io.write_journal import Noted

__all__ = ["Name", "PendingFile", "Write"]

Name = str | os.PathLike[str]
Write = Callable[[BinaryIO], object]


class PendingFile:
    """A file on its way to its name."""

    def __init__(self, path: Name, target: Path) -> None:
        self.path, self.target = path, target
        self.hidden: Path | None = None  # where it is until it appears
        self.older: Path | None = None  # where the older file is kept meanwhile
        self.has_name = False
        self.locks: list[int] = []
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

    def plan(self, *, alone: bool) -> Noted:
        """Chooses the hidden names that it needs to take the place of an older file."""
        found = os.fstat(self.file.fileno())
        if self.target.exists():
            self.hidden = self.hidden or hidden_name(self.target)
            self.older = None if alone else hidden_name(self.target)
        return Noted(
            self.target.name,
            None if self.hidden is None else self.hidden.name,
            None if self.older is None else self.older.name,
            (found.st_ino, found.st_mtime_ns, found.st_size),
        )

    def prepare(self) -> None:
        """Does all that may fail before the file appears."""
        with writing(self.path):
            if self.hidden is not None and not self.has_name:
                link_to(self.file, self.hidden)
            if self.older is not None:
                self.locks.append(os.open(self.target, os.O_RDONLY))
                lock(self.locks[-1])
                os.link(self.target, self.older)

    def appear(self) -> None:
        """Gives the file its name."""
        with writing(self.path):
            if self.hidden is None:
                link_to(self.file, self.target)
                return
            if not CAN_LOCK:  # Windows renames no open file
                self.file.close()
            os.replace(self.hidden, self.target)

    def close(self) -> None:
        """Ends the file; one without a name is gone then."""
        with suppress(OSError):  # what it still holds back belongs on a full disk
            self.file.close()
        for path in (self.hidden, self.older):
            if path is not None:
                path.unlink(missing_ok=True)
        for held in self.locks:
            os.close(held)

    def _opened(self) -> BinaryIO:
        found = nameless(self.target.parent)
        while found is None:
            self.has_name = True
            self.hidden = hidden_name(self.target)
            found = file_at(self.hidden)
        return found


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
