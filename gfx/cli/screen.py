"""Prints the output of commands: tables or JSON on stdout, progress on stderr.

1. No line is wider than the screen: the terminal, else the variable COLUMNS, else 80.
2. Text is broken between words; a name that is wider than the screen goes on in the next lines,
   broken at its dots. Nothing of it is left out.
3. A table whose columns would not fit, each as wide as its longest word, becomes one block a row.
"""

import json
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import typer

from gfx.io.text_lines import between_words, display_width, padded, wrapped
from gfx.progress import LiveLine, listening, stage

__all__ = ["Progress", "columns_of_screen", "print_json", "print_table", "print_text"]

_GAP = 2  # blanks between columns


def print_json(data: Any) -> None:
    """Prints data as JSON on stdout."""
    typer.echo(json.dumps(data, indent=2))


def print_text(text: str) -> None:
    """Prints text on stdout, broken between words (rules 1 and 2)."""
    width = columns_of_screen()
    for line in text.splitlines():
        typer.echo("\n".join(wrapped(line, width)))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Prints a table on stdout; columns whose name starts with "#" hold numbers."""
    width = columns_of_screen()
    cells = [[cell.splitlines() or [""] for cell in row] for row in rows]
    names = [name.removeprefix("#") for name in columns]
    if title:
        print_text(title)
    widths = _widths(columns, names, cells, width)
    if widths is None:
        _print_blocks(names, cells, width)
        return
    right = [name.startswith("#") for name in columns]
    typer.echo()
    typer.echo(_line(names, widths, right))
    typer.echo((" " * _GAP).join("-" * each for each in widths))
    for row in cells:
        broken = [_broken(lines, each) for lines, each in zip(row, widths, strict=True)]
        for number in range(max(map(len, broken))):
            parts = [lines[number] if number < len(lines) else "" for lines in broken]
            typer.echo(_line(parts, widths, right))
    typer.echo()


def columns_of_screen() -> int:
    """Returns how many characters fit on a line of stdout (rule 1)."""
    return shutil.get_terminal_size((80, 24)).columns


def _broken(lines: Sequence[str], width: int) -> list[str]:
    return [part for line in lines for part in (between_words(line, width) or [""])]


def _widths(
    columns: Sequence[str], names: Sequence[str], cells: Sequence[Sequence[list[str]]], width: int
) -> list[int] | None:
    """Shares the screen among columns; None if the longest words do not fit (rule 3)."""
    least, most = [], []
    for place, name in enumerate(names):
        texts = [name, *(line for row in cells for line in row[place])]
        most.append(max(map(display_width, texts)))
        words = [display_width(word) for text in texts for word in text.split()]
        # numbers are not broken, nor what names the row
        whole = columns[place].startswith("#") or place == 0
        least.append(most[-1] if whole else max(words, default=1))
    room = width - _GAP * (len(names) - 1)
    if sum(least) > room:
        return None
    found = list(least)
    spare = room - sum(least)
    for place in sorted(range(len(names)), key=lambda n: most[n] - least[n]):
        waiting = sum(1 for n in range(len(names)) if most[n] - found[n] > 0) or 1
        more = min(most[place] - found[place], spare // waiting if waiting > 1 else spare)
        found[place] += more
        spare -= more
    return found


def _line(parts: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    made = [
        padded(part, width, right=is_right)
        for part, width, is_right in zip(parts, widths, right, strict=True)
    ]
    return (" " * _GAP).join(made).rstrip()


def _print_blocks(names: Sequence[str], cells: Sequence[Sequence[list[str]]], width: int) -> None:
    """Prints a block a row: its name, then what the other columns say of it (rule 3)."""
    for row in cells:
        typer.echo()
        head, *rest = zip(names, row, strict=True)
        typer.echo("\n".join(line for text in head[1] for line in wrapped(text, width)))
        for name, lines in rest:
            text = ", ".join(line.rstrip(",") for line in lines if line)
            if text:
                said = f"  {name}: {text}" if name else f"  {text}"
                typer.echo("\n".join(wrapped(said, width)))
    typer.echo()


class Progress:
    """Shows what is done on stderr: one live line on a terminal, else a line now and then.

    Of several processes at one task, all but one are quiet.
    """

    def __init__(self, text: str, *, quiet: bool = False) -> None:
        self._text, self._stack = text, ExitStack()
        self._line = LiveLine(quiet=quiet)

    def __enter__(self) -> "Progress":
        self._stack.enter_context(self._line)
        self._stack.enter_context(listening(self._line))
        stage(self._text)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def stage(self, text: str) -> None:
        """Names the current stage."""
        stage(text)
