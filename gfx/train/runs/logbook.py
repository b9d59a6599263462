"""What a run logs: log.jsonl and metrics.csv, the same whether or not it was interrupted.

1. A row holds the stage, the step, and the numbers of that step; of time there is nothing in it.
2. Rows after the checkpoint that a run goes on from are taken back: they come again.
3. Trackers (trackers.py) get the same numbers, as STAGE/NAME, at the steps of the whole run: those
   of the stages before are counted in, so that they never fall.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gfx.errors import ArchiveError
from gfx.io.atomic_writes import write_files
from gfx.io.guards import printable, reading_file, writing
from gfx.io.plain_data import shown
from gfx.io.plain_limits import beyond_limits
from gfx.io.regular_files import read_regular
from gfx.train.runs.trackers import Trackers

__all__ = ["Logbook", "Row", "flat"]

Row = dict[str, Any]
Number = TypeVar("Number")  # of a term
_LARGEST = 2**30  # bytes of the log


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
        *,
        writes: bool = True,
    ) -> None:
        self.writes = writes
        self.path, self.table = folder / "log.jsonl", folder / "metrics.csv"
        self.rows: list[Row] = []
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
        self.trackers = Trackers(trackers, folder)

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
        if self.trackers:
            stage = row.get("name", row["stage"])
            about = ("stage", "step", "name")
            numbers = {f"{stage}/{key}": v for key, v in row.items() if key not in about}
            self.trackers.log(numbers, self._steps_before(row["stage"]) + row["step"])

    def _steps_before(self, stage: int) -> int:
        """Counts the steps of the stages before one (rule 3)."""
        taken: dict[int, int] = {}
        for row in self.rows:
            if row["stage"] < stage:
                taken[row["stage"]] = max(taken.get(row["stage"], 0), row["step"])
        return sum(taken.values())

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
        self.trackers.close()


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
