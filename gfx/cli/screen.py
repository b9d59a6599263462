"""Prints the output of commands: tables or JSON on stdout, progress on stderr."""

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import typer

from gfx.progress import LiveLine, listening, stage

__all__ = ["Progress", "columns_of_screen", "print_json", "print_table"]

_WIDE = 160  # columns where there is no terminal to fit


def print_json(data: Any) -> None:
    """Prints data as JSON on stdout."""
    typer.echo(json.dumps(data, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Prints a table on stdout; columns whose name starts with "#" hold numbers."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        right = name.startswith("#")
        table.add_column(
            name.removeprefix("#"), justify="right" if right else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: a path may hold [brackets]
    Console(width=columns_of_screen()).print(table)


def columns_of_screen() -> int:
    """Returns how many characters fit on a line of stdout; _WIDE if it is no terminal."""
    from rich.console import Console

    return Console().width if sys.stdout.isatty() else _WIDE


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
