"""What a run logs: log.jsonl and metrics.csv, the same whether or not it was interrupted.

1. A row holds the stage, the step, and the numbers of that step; of time there is nothing in it.
2. Rows after the checkpoint that a run goes on from are taken back: they come again.
3. Trackers (tensorboard, wandb, trackio) get the same rows, through accelerate.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gfx.errors import ArchiveError, InputError
from gfx.io.atomic_writes import write_files
from gfx.io.guards import printable, reading_file, writing
from gfx.io.plain_data import shown
from gfx.io.plain_limits import beyond_limits
from gfx.io.regular_files import read_regular

__all__ = ["Logbook", "Row", "check_trackers", "flat"]

Row = dict[str, Any]
Number = TypeVar("Number")  # of a term
_LARGEST = 2**30  # bytes of the log
TRACKERS = ("tensorboard", "wandb", "trackio")


class Logbook:
    """The rows of a run, in memory and in `log.jsonl`.

    Example:
        >>> import tempfile
        >>> book = Logbook(Path(tempfile.mkdtemp()))
        >>> book.add({"stage": 1, "step": 10, "l1": 0.5})
        >>> book.rows
        [{'stage': 1, 'step': 10, 'l1': 0.5}]
    """

    def __init__(
        self,
        folder: Path,
        trackers: Sequence[str] = (),
        name: str = "gfx",
        *,
        writes: bool = True,
    ) -> None:
        self.writes = writes
        self.path, self.table = folder / "log.jsonl", folder / "metrics.csv"
        self.rows: list[Row] = []
        self._trackers = _tracking(trackers, folder, name)
        if self.path.exists():
            again = "delete the file, and give the command again; its curves begin anew"
            with reading_file(self.path, again):
                lines = read_regular(self.path, _LARGEST, again).decode("utf-8").split("\n")
            for number, line in enumerate(lines[:-1], 1):  # a last one without an end is half
                row = _row_of(line)
                if row is None:
                    said = (
                        f"{printable(self.path)}, line {number}: {shown(line)} is no row of a log"
                    )
                    raise ArchiveError(f"{said}; {again}")
                self.rows.append(row)

    def go_on_from(self, stage: int, step: int) -> None:
        """Takes back the rows after a step of a stage (rule 2)."""
        kept = [row for row in self.rows if (row["stage"], row["step"]) <= (stage, step)]
        self.rows = kept
        if not self.writes:
            return
        text = "".join(f"{json.dumps(row)}\n" for row in kept)
        write_files({self.path: lambda file: file.write(text.encode())})

    def add(self, row: Row) -> None:
        """Adds a row to the file and to the trackers."""
        self.rows.append(row)
        if not self.writes:
            return
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(row)}\n")
        if self._trackers is not None:
            numbers = {k: v for k, v in row.items() if k not in ("stage", "step", "name")}
            self._trackers.log(numbers, step=len(self.rows))

    def write_table(self) -> None:
        """Writes all rows as metrics.csv; a column for each number that any row has."""
        if not self.writes:
            return
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        text = buffer.getvalue().encode("utf-8", "backslashreplace")
        write_files({self.table: lambda file: file.write(text)})

    def close(self) -> None:
        """Ends the trackers."""
        if self._trackers is not None:
            self._trackers.end_training()


def _row_of(line: str) -> Row | None:
    """Reads a row; None if it is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or beyond_limits(row):
        return None
    numbers = all(type(row.get(key)) is int for key in ("stage", "step"))
    return row if numbers and all(isinstance(v, int | float | str) for v in row.values()) else None


def _tracking(trackers: Sequence[str], folder: Path, name: str) -> Any:
    """Returns an accelerator that has the trackers, if any are asked for."""
    if not trackers:
        return None
    check_trackers(trackers)
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise InputError(
            f"log: {trackers[0]} is reached through accelerate, which is not installed; install "
            "the extra: pip install 'gfx-compiler[train]'"
        ) from error
    try:
        made = Accelerator(log_with=list(trackers), project_dir=str(folder), cpu=True)
        made.init_trackers(name)
    except Exception as error:  # of another's package
        raise InputError(
            f"log: {', '.join(trackers)} cannot be used: {type(error).__name__}: {str(error)[:200]}"
        ) from error
    return made


def check_trackers(trackers: Sequence[str]) -> None:
    """Checks the names of trackers.

    Raises: InputError naming one that there is not.
    """
    for each in trackers:
        if each not in TRACKERS:
            raise InputError(f"log: there is no tracker {each!r}; choose {', '.join(TRACKERS)}")


def flat(terms: Mapping[str, Mapping[str, Number]], student: str) -> dict[str, Number]:
    """Writes the terms of all players by name; those of other players after the player's.

    Example:
        >>> flat({"teacher": {"l1": 1.0}, "student": {"l1": 2.0}}, "student")
        {'teacher.l1': 1.0, 'l1': 2.0}
    """
    return {
        term if player == student else f"{player}.{term}": value
        for player, held in terms.items()
        for term, value in held.items()
    }
