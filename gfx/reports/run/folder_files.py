"""Reads files of a run folder that may be missing, cut or damaged; bounded.

What cannot be read becomes a sentence in `faults`.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gfx.errors import GfxError
from gfx.io.guards import printable, reason
from gfx.io.regular_files import read_regular

__all__ = ["Row", "number_of", "read_json", "read_rows", "read_text"]

_LARGEST = 4 << 20  # bytes of a file but the log
_ROWS = 200_000  # of the log that are read
_LONGEST = 1 << 16  # characters of a row

Row = dict[str, Any]


def number_of(value: Any) -> float | None:
    """Returns a number as a float, also one that is not finite; None of anything else.

    Example:
        >>> number_of(2), number_of("2"), number_of(True), number_of(10**400)
        (2.0, None, None, inf)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def read_rows(path: Path, faults: list[str]) -> Iterator[Row]:
    """Reads the log line by line; one that was half written, or is none, is left out."""
    if not path.exists():
        return
    if not path.is_file():  # a pipe would have us wait
        faults.append(f"{printable(path.name)} is no regular file")
        return
    left_out = 0
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST), "")):
                if number >= _ROWS:
                    faults.append(f"log.jsonl: the first {_ROWS:,} rows are shown, there are more")
                    break
                row = _row(line)
                if row is not None:
                    yield row
                elif line.endswith("\n"):  # else the run is about to write it
                    left_out += 1
    except OSError as error:
        faults.append(f"log.jsonl cannot be read ({reason(error)})")
    if left_out:
        faults.append(f"log.jsonl: {left_out:,} lines are no rows of a log, and are left out")


def _row(line: str) -> Row | None:
    try:
        row = json.loads(line)
        stage, step = row["stage"], row["step"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    fits = type(stage) is int and type(step) is int and 0 <= stage < 2**31 and 0 <= step < 2**53
    return row if fits else None


def read_json(path: Path, faults: list[str]) -> Any:
    """Reads JSON; None, and why, if it cannot."""
    text = read_text(path, faults)
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        faults.append(f"{printable(path.name)} cannot be read ({reason(error)})")
        return None


def read_text(path: Path, faults: list[str]) -> str | None:
    """Reads a file of some size; says why if it cannot."""
    try:
        return read_regular(path, _LARGEST).decode("utf-8")
    except (OSError, ValueError, GfxError) as error:
        faults.append(f"{printable(path.name)} cannot be read ({reason(error.__cause__ or error)})")
        return None
