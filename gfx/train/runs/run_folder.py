"""The folder of a run: what it was asked for, the nets of finished stages, logs and checkpoints.

    recipe.yaml            the system with every default, and what the run was given
    called.json            what system and data were called, what was assumed before the first step
    plan.json              what the stages cost
    01-distill.gfx         the net of a finished stage; 01-distill.critic.pt its discriminator
    01-distill.json        how the stage ended: it is written last
    given.json             how the model as it was given is judged, beside the last stage
    log.jsonl, metrics.csv, samples/*.png, report.html
    checkpoints/           of the stage that runs

1. The same command goes on where the folder says that it stopped. Another command in the same
   folder is an error that shows the difference.
2. One process at a time writes to a folder.
3. What a run reads back is what it wrote: the files of a stage are known by hashes in its .json,
   and that one by a seal of its own. Damaged files, and those of another run, are refused.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gfx.errors import ArchiveError, InputError
from gfx.io.atomic_writes import write_files
from gfx.io.guards import printable, reading_file, writing
from gfx.io.plain_data import canonical, shown
from gfx.io.regular_files import read_regular
from gfx.io.yaml_text import LONGEST, dump, parse
from gfx.train.runs.sealed_files import NET, seal

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["RunFolder"]

_SHOWN = 12  # lines of a difference
_TEXT = 64 * 2**20  # bytes of a .json


class RunFolder:
    """A folder that a run writes to.

    Example:
        >>> folder = RunFolder("/tmp/runs/shoes")
        >>> folder.stage_file(0, "distill", ".gfx").name
        '01-distill.gfx'
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.key = ""  # of the run: what was asked, hashed

    def seal(self, content: bytes) -> str:
        """Returns the hash of a content that this run wrote (rule 3)."""
        return seal(self.key, content)

    def stage_file(self, number: int, name: str, ending: str) -> Path:
        """Returns where a file of a stage is; `number` counts from 0."""
        return self.path / f"{number + 1:02d}-{name}{ending}"

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints of the stage that runs are."""
        return self.path / "checkpoints"

    @contextmanager
    def opened(self, asked: Mapping[str, Any], *, claims: bool = True) -> Iterator[None]:
        """Makes the folder for a run, or takes it up again (rules 1 and 2).

        `asked` is all that decides the result: plain data. Of several processes one `claims` it.

        Raises: InputError if it is the folder of another run, or of one that runs now.
        """
        self.key = hashlib.sha256(dump(dict(asked)).encode()).hexdigest()
        if not claims:
            yield
            return
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open(self.path / ".lock", "a+b")  # noqa: SIM115 - closed below
        with lock:
            if fcntl is not None:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    raise InputError(
                        f"{printable(self.path)} is in use by another process; wait for it, or "
                        "give another run folder"
                    ) from error
            self._claim(asked)
            yield

    def asked(self) -> dict[str, Any]:
        """Reads what the run was asked for; its files can then be read, beside the run.

        Raises: ArchiveError or InputError if it is no folder of a run.
        """
        path = self.path / "recipe.yaml"
        again = "give the folder of a run, as gfx compress wrote it"
        with reading_file(path, again):
            text = read_regular(path, LONGEST, again)
            found = parse(text.decode("utf-8"), str(path))
        if not isinstance(found, dict) or not isinstance(found.get("run"), dict):
            raise InputError(f"{printable(path)} is no recipe of a run; {again}")
        self.key = hashlib.sha256(text).hexdigest()
        return found

    def finished(self, number: int, name: str) -> dict[str, Any] | None:
        """Returns how a stage ended; None if it has not.

        Raises: ArchiveError if a file of it is not what this run wrote (rule 3).
        """
        path = self.stage_file(number, name, ".json")
        if not path.exists():
            return None
        again = (
            f"put back what the run wrote, or delete {path.name}, the files of later stages and "
            "checkpoints, and give the command again: these stages run anew"
        )
        with reading_file(path, again):
            found: dict[str, Any] = json.loads(read_regular(path, _TEXT, again))
            known = found.pop("seal")
        if known != self._seal_of(path, found):
            raise ArchiveError(f"{printable(path)} is not what this run wrote; {again}")
        for ending, wanted in found["files"].items():
            held = self.stage_file(number, name, ending)
            if self.seal(read_regular(held, NET, again)) != wanted:
                raise ArchiveError(f"{printable(held)} is not what this run wrote; {again}")
        return found

    def finish(self, number: int, name: str, ended: Mapping[str, Any]) -> None:
        """Writes how a stage ended, after its other files, whose endings are `ended["files"]`."""
        files = {
            ending: self.seal(self.stage_file(number, name, ending).read_bytes())
            for ending in ended["files"]
        }
        self._write_sealed(self.stage_file(number, name, ".json"), {**ended, "files": files})

    def note(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes plain data that the run can do without, as NAME.json."""
        self._write_sealed(self.path / f"{name}.json", content)

    def noted(self, name: str) -> dict[str, Any] | None:
        """Returns what the run noted; None if it has not, or if the file is not what it wrote."""
        path = self.path / f"{name}.json"
        try:
            with reading_file(path, "delete it"):
                found: dict[str, Any] = json.loads(read_regular(path, _TEXT))
                known = found.pop("seal")
        except ArchiveError:
            return None
        return found if known == self._seal_of(path, found) else None

    def _write_sealed(self, path: Path, data: Mapping[str, Any]) -> None:
        text = json.dumps({**data, "seal": self._seal_of(path, data)})
        write_files({path: lambda file: file.write(text.encode())})

    def _seal_of(self, path: Path, data: Mapping[str, Any]) -> str:
        """Returns the hash of data under its name: that of another file is none of it."""
        return self.seal(path.name.encode() + b"\n" + canonical(data))

    def _claim(self, asked: Mapping[str, Any]) -> None:
        """Writes what was asked for, or compares it with what is there."""
        path = self.path / "recipe.yaml"
        text = dump(dict(asked))
        others = [
            p.name
            for p in self.path.iterdir()
            if not p.name.startswith(".") and p.name != path.name
        ]
        if not path.exists() or not others:  # nothing of it was run: it may be asked anew
            if others:
                raise InputError(
                    f"{printable(self.path)} holds {others[0]!r} and no recipe.yaml: it is no run "
                    "folder; give a new one, or an empty one"
                )
            write_files({path: lambda file: file.write(text.encode())})
            return
        again = "put back what the run wrote, or give another run folder"
        with reading_file(path, again):
            before = parse(read_regular(path, LONGEST, again).decode("utf-8"), str(path))
        now = parse(text, "recipe")
        if before != now:
            lines = list(_differences(before, now))
            more = f"\n  ... and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
            said = "\n".join(f"  {line}" for line in lines[:_SHOWN])
            raise InputError(
                f"{printable(self.path)} is the folder of a run that was asked for something else:"
                f"\n{said}{more}\ngive another run folder, or what that run was given"
            )


def _differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
    """Lists what differs, by its place."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            place = f"{path}.{key}" if path else str(key)
            if key not in now:
                yield f"{place}: was {shown(before[key])}, now absent"
            elif key not in before:
                yield f"{place}: was absent, now {shown(now[key])}"
            else:
                yield from _differences(before[key], now[key], place)
    elif before != now:
        yield f"{path}: was {shown(before)}, now {shown(now)}"
