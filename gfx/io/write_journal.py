"""Notes what several files that are written together are to become, until all have their names.

Two names cannot appear in one step of the system, and a process may be killed between them. The
journal stands in the folder meanwhile. Whoever finds one that nobody holds undoes what it notes:

1. A journal notes names in its own folder only, each new file by inode, time and size; so it can
   touch nothing but what its writer made.
2. Files in several folders have a journal in each. The first says for all of them whether the
   files are to be undone (U), or all have their names (D) and only hidden files are left.
3. Undone is what has the name of a target and is the new file: the older one comes back, or none.
"""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gfx.io.hidden_files import (
    CAN_LOCK,
    file_at,
    hidden_files,
    journal_name,
    link_to,
    lock,
    nameless,
    remove_leftovers,
)

__all__ = ["Journal", "Noted", "recover"]

_UNDO, _DONE = b"U", b"D"
_LARGEST = 2**20  # bytes; a journal notes a handful of files


@dataclass(frozen=True)
class Noted:
    """One file of several: its name, the hidden ones beside it, and how the new file is known."""

    target: str
    hidden: str | None  # where the new file is until it appears
    older: str | None  # where the older file is kept meanwhile
    known_by: tuple[int, int, int]  # inode, time of change in ns, bytes


class Journal:
    """The journals of files that are written together."""

    def __init__(self) -> None:
        self.opened: dict[Path, BinaryIO] = {}
        self.noted: dict[Path, list[Noted]] = {}  # by folder

    def begin(self, noted: Sequence[tuple[Path, Noted]]) -> None:
        """Notes files, each with its folder."""
        for folder, item in noted:
            self.noted.setdefault(folder, []).append(item)
        if not noted or not CAN_LOCK:
            return
        names = {folder: journal_name(folder) for folder in self.noted}
        first, *others = names.values()
        for folder, path in names.items():
            content = {
                "files": [asdict(item) for item in self.noted[folder]],
                "first": None if path == first else str(first),
                "others": [str(other) for other in others] if path == first else [],
            }
            self.opened[path] = _written(path, _UNDO + json.dumps(content).encode())

    def undo(self) -> None:
        """Takes back what has its name already."""
        for folder, items in self.noted.items():
            _undo(folder, items)

    def done(self) -> None:
        """Says that all files have their names: nothing is undone any more."""
        for file in list(self.opened.values())[:1]:
            os.pwrite(file.fileno(), _DONE, 0)

    def close(self) -> None:
        """Removes the journals, the first one last."""
        for path, file in reversed(self.opened.items()):
            path.unlink(missing_ok=True)
            file.close()


def recover(folder: Path) -> None:
    """Undoes or finishes what killed processes left in a folder; those that run keep theirs.

    It raises nothing: a folder that cannot be written to stays as it is.
    """
    for path in hidden_files(folder, journals=True):
        with suppress(OSError):
            _recover(path)
    remove_leftovers(folder)


def _recover(path: Path) -> None:
    """Undoes or finishes what one journal notes, if nobody holds it."""
    found = os.open(path, os.O_RDONLY)
    try:
        if not lock(found) or os.fstat(found).st_uid != os.getuid():
            return
        state, content = _read(found)
        if content is not None:
            first = content["first"]
            for other in content["others"] if first is None else ():
                with suppress(FileNotFoundError):
                    _recover(Path(other))
            if (state if first is None else _state(Path(first))) == _UNDO:
                _undo(path.parent, content["files"])
            _sweep(path.parent, content["files"])
        path.unlink(missing_ok=True)
    finally:
        os.close(found)


def _read(descriptor: int) -> tuple[bytes, Any]:
    """Reads a journal; without content where it was not written to its end."""
    text = os.pread(descriptor, _LARGEST, 0)
    try:
        content = json.loads(text[1:])
        files = [
            Noted(**{**item, "known_by": tuple(item["known_by"])}) for item in content["files"]
        ]
        names = [n for f in files for n in (f.target, f.hidden, f.older) if n is not None]
        if any(os.path.basename(name) != name for name in names):  # rule 1
            return b"", None
        return text[:1], {**content, "files": files}
    except (ValueError, TypeError, KeyError):
        return b"", None


def _state(first: Path) -> bytes:
    """Returns what the first journal says; one that is gone was finished (rule 2)."""
    try:
        return first.read_bytes()[:1]
    except FileNotFoundError:
        return _DONE


def _undo(folder: Path, items: Sequence[Noted]) -> None:
    """Applies rule 3."""
    for item in items:
        target = folder / item.target
        if _known_by(target) != item.known_by:
            continue
        if item.older is not None and (folder / item.older).exists():
            os.replace(folder / item.older, target)
        else:
            target.unlink(missing_ok=True)


def _sweep(folder: Path, items: Sequence[Noted]) -> None:
    """Removes the hidden files of some that were written."""
    names = [name for item in items for name in (item.hidden, item.older) if name is not None]
    for path in hidden_files(folder, journals=False):
        if path.name in names:
            path.unlink(missing_ok=True)


def _known_by(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _written(path: Path, content: bytes) -> BinaryIO:
    """Writes a journal, which is whole once it has its name, and keeps it locked."""
    file = nameless(path.parent)
    named = file is None
    while file is None:
        file = file_at(path)
    file.write(content)
    file.flush()
    if not named:
        link_to(file, path)
    return file
