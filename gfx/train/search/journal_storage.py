"""Opens what a study is kept in: a journal file whose lines stay whole, or a database.

1. A process that is killed while it writes, or a full disk, leaves a part of a line. Optuna would
   join its next line to it, and no line after it could be read. Here such a part is cut off first.
2. The lock of a writer ends with its process: nobody waits for one that was killed.
"""

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from gfx.errors import InputError
from gfx.io.guards import printable
from gfx.io.hidden_files import CAN_LOCK, lock

__all__ = ["open_storage"]

_JOURNAL = "journal:"
_BLOCK = 4096  # bytes


def open_storage(optuna: Any, storage: str) -> Any:
    """Opens `journal:FILE` or the path of such a file; a URL of a database is left to Optuna.

    Example:
        >>> import optuna, pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> type(open_storage(optuna, f"journal:{folder / 'search.log'}")).__name__
        'JournalStorage'
        >>> open_storage(optuna, "sqlite:///search.db")
        'sqlite:///search.db'

    Raises: InputError if the file is a folder, a pipe or a device, which has no end.
    """
    path = storage.removeprefix(_JOURNAL)
    if path == storage and "://" in storage:
        return storage
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(
            f"the storage {printable(path)} is no regular file; give journal:FILE, a file that is "
            "there or not yet"
        )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    journal = optuna.storages.journal

    class WholeLines(journal.JournalFileBackend):  # type: ignore[misc, name-defined]
        """Writes lines under a lock of the system (rules 1 and 2)."""

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
            with Path(path).open("r+b") as file:
                if not lock(file.fileno(), wait=True):
                    raise OSError("its file system cannot lock files; give a database")
                _cut_partial_line(file)
                file.write(lines.encode())
                file.flush()
                os.fsync(file.fileno())

    backend = journal.JournalFileBackend if not CAN_LOCK else WholeLines
    return optuna.storages.JournalStorage(backend(path))


def _cut_partial_line(file: BinaryIO) -> None:
    """Truncates a file after its last line that is whole, and goes to its end."""
    end = kept = file.seek(0, os.SEEK_END)
    while kept:
        first = max(kept - _BLOCK, 0)
        file.seek(first)
        found = file.read(kept - first).rfind(b"\n")
        kept = first + found + 1
        if found >= 0:
            break
    if kept != end:
        file.truncate(kept)
    file.seek(kept)
