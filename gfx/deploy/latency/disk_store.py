"""Keeps measurements on disk, one file for each site or program of a machine.

A file is JSON: its subject, and numbers by name. A damaged or foreign file counts as empty and is
written anew. Of two processes that write at once, one file remains; the other measurements are
then repeated.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from gfx.errors import ArchiveError
from gfx.io.atomic_writes import write_atomic

__all__ = ["Store"]

_FORMAT = "gfx latency 1"
_FILES = 2000  # beyond, the oldest are removed
_BYTES = 4 << 20  # of a file; a table of a thousand entries takes 30 kB


class Store:
    """Reads and writes numbers by name, for one machine, backend and number of threads."""

    def __init__(self, folder: Path, machine: str) -> None:
        self.folder, self.machine = folder, machine
        self.notes: list[str] = []

    def read(self, about: str) -> dict[str, float]:
        """Returns the measurements of a subject; {} if there are none, or the file is damaged."""
        path = self._path(about)
        try:
            if path.stat().st_size > _BYTES:
                return {}
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(found, dict) or found.get("format") != _FORMAT:
            return {}
        same = found.get("machine") == self.machine and found.get("about") == about
        values = found.get("values")
        if not same or not isinstance(values, dict) or not all(map(_usable, values.values())):
            return {}
        return {str(name): float(value) for name, value in values.items()}

    def write(self, about: str, values: Mapping[str, float]) -> None:
        """Adds measurements of a subject; a folder that cannot be written is a warning."""
        known = {**self.read(about), **values}
        content = {"format": _FORMAT, "machine": self.machine, "about": about, "values": known}
        data = json.dumps(content, indent=0).encode()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self._path(about), lambda file: _put(file, data))
            self._bound()
        except (ArchiveError, OSError) as error:
            note = f"what was measured is not kept: {error}; set GFX_CACHE to a folder of yours"
            if note not in self.notes:
                self.notes.append(note)

    def _path(self, about: str) -> Path:
        name = hashlib.sha256(f"{self.machine}\n{about}".encode()).hexdigest()[:32]
        return self.folder / f"{name}.json"

    def _bound(self) -> None:
        """Removes the oldest files beyond the number that is kept."""
        files = list(self.folder.glob("*.json"))
        if len(files) <= _FILES:
            return
        for path in sorted(files, key=_written)[: len(files) - _FILES]:
            path.unlink(missing_ok=True)


def _usable(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another process removed it
        return 0.0


def _put(file: BinaryIO, data: bytes) -> None:
    file.write(data)
