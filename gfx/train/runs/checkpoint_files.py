"""Checkpoints of the stage that runs: whole or not at all, the last two, each with its hash.

1. A checkpoint is one file that appears when all of it is on the disk, beside the hash of its
   content and of its run. One whose hash is wrong, or of another run, is not taken; the one before
   it is.
2. A disk that is full keeps the last good one, and the error says so.
"""

import io
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from gfx.errors import ArchiveError
from gfx.io.atomic_writes import write_files
from gfx.io.guards import reading_file, writing
from gfx.io.write_journal import recover
from gfx.train.runs.sealed_files import read_sealed, seal, seal_path

__all__ = ["CheckpointFiles"]

_KEPT = 2
_NAME = re.compile(r"(\d+)-step-(\d+)\.pt")


class CheckpointFiles:
    """The checkpoints of one stage in a folder; `stage` counts from 0, `key` is that of the run."""

    def __init__(self, folder: Path, stage: int, key: str = "") -> None:
        self.folder, self.stage, self.key = folder, stage, key

    def write(self, step: int, state: dict[str, Any]) -> None:
        """Writes the state after so many steps, then removes all but the last two.

        Raises: ArchiveError if it cannot be written; the last good one stays (rule 2).
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save({"step": step, **state}, buffer)
        content = buffer.getbuffer()
        digest = seal(self.key, content)
        path = self._path(step)
        try:
            write_files(
                {
                    seal_path(path): lambda file: file.write(digest.encode()),
                    path: lambda file: file.write(content),
                }
            )
        except ArchiveError as error:
            last = next(iter(self._steps()), None)
            kept = "there is none before it" if last is None else f"that of step {last} stays"
            raise ArchiveError(
                f"{error}; the checkpoint of step {step} is not written, {kept}: make room, and "
                "give the command again"
            ) from error
        for old in list(self._steps())[_KEPT:]:
            self._remove(old)

    def latest(self) -> dict[str, Any] | None:
        """Returns the last good state, with its `step`; None if there is none (rule 1)."""
        for step in self._steps():
            path = self._path(step)
            content = read_sealed(path, self.key)
            if content is None:
                continue
            with reading_file(path, "delete the file, and give the command again"):
                state: dict[str, Any] = torch.load(
                    io.BytesIO(content), map_location="cpu", weights_only=True
                )
            return state
        return None

    def clear(self) -> None:
        """Removes all of them, as when the stage has ended; also what a killed process left."""
        with suppress(OSError):
            recover(self.folder)
            for path in self.folder.glob(f"{self.stage + 1:02d}-step-*"):
                path.unlink(missing_ok=True)
            self.folder.rmdir()

    def _steps(self) -> Iterator[int]:
        """Lists the steps that have one, the last first."""
        if not self.folder.is_dir():
            return
        found = []
        for path in self.folder.iterdir():
            match = _NAME.fullmatch(path.name)
            if match and int(match[1]) == self.stage + 1:
                found.append(int(match[2]))
        yield from sorted(found, reverse=True)

    def _path(self, step: int) -> Path:
        return self.folder / f"{self.stage + 1:02d}-step-{step:09d}.pt"

    def _remove(self, step: int) -> None:
        for path in (seal_path(self._path(step)), self._path(step)):  # listed by the last
            with suppress(OSError):
                path.unlink(missing_ok=True)
