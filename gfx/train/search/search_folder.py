"""The folder of a search: what it was asked for, its ledger, and at the end its front.

    search.json      all that decides the result
    ledger.*         every net that was judged
    front.json, nets/, samples/, front.html

1. The same search goes on where the folder says that it stopped. Another one in the same folder is
   an error that shows the difference.
2. One process at a time writes to a folder; workers that share a storage have one each.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gfx.errors import ArchiveError, InputError
from gfx.io.atomic_writes import write_files
from gfx.io.guards import printable, reading_file, writing
from gfx.io.hidden_files import lock
from gfx.io.plain_data import plain, shown
from gfx.io.regular_files import read_regular

__all__ = ["ASKED", "claimed_folder", "is_search_folder"]

ASKED = "search.json"
_MOST = 2**24  # bytes


def is_search_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the folder of a search.

    Example:
        >>> is_search_folder("/no/such/folder")
        False
    """
    return (Path(path) / ASKED).is_file()


@contextmanager
def claimed_folder(folder: str | os.PathLike[str], asked: Mapping[str, Any]) -> Iterator[Path]:
    """Makes the folder of a search, or takes it up again (rules 1 and 2).

    `asked` is all that decides the result, as plain data.

    Raises: InputError if it is the folder of another search, or of one that runs now.
    """
    path = Path(folder)
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        locked = open(path / ".lock", "a+b")  # noqa: SIM115 - closed below
    with locked:
        if not lock(locked.fileno()):
            raise InputError(
                f"{printable(path)} is in use by another process; wait for it, or give another "
                "folder"
            )
        _claim(path, json.loads(json.dumps(plain(asked))))
        yield path


def _claim(path: Path, asked: dict[str, Any]) -> None:
    """Writes what was asked for, or compares it with what is there."""
    file = path / ASKED
    names = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
    others = [name for name in names if name != ASKED]
    if not file.exists() or not others:  # nothing was judged: it may be asked anew
        if others:
            raise InputError(
                f"{printable(path)} holds {others[0]!r} and no {ASKED}: it is no folder of a "
                "search; give a new one, or an empty one"
            )
        text = json.dumps(asked, indent=1)
        write_files({file: lambda stream: stream.write(text.encode())})
        return
    again = "put back what the search wrote, or give another folder"
    with reading_file(file, again):
        before = json.loads(read_regular(file, _MOST, again))
        if not isinstance(before, dict):
            raise ArchiveError(f"{printable(file)} is not what a search wrote; {again}")
    if before != asked:
        pairs = {key: (before.get(key), asked.get(key)) for key in (*before, *asked)}
        lines = [
            f"  {key}: was {shown(was)}, now {shown(now)}"
            for key, (was, now) in pairs.items()
            if was != now
        ]
        said = "\n".join(lines)
        raise InputError(
            f"{printable(path)} is the folder of a search that was asked for something else:\n"
            f"{said}\ngive another folder, or what that search was given"
        )
