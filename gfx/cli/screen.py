"""Prints the output of commands: tables or JSON on stdout, progress on stderr."""

import json
import logging
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["Progress", "columns_of_screen", "print_json", "print_table"]

_PATIENCE = 1.0  # seconds before progress is reported where there is no terminal
_PAUSE = 10.0  # seconds between two reports of counted work, there
_BAR = 24  # characters
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
    """Shows progress on stderr: a spinner on a terminal, else lines after a second.

    The stages are those that gfx logs. Of several processes at one task, all but one are quiet.
    """

    def __init__(self, text: str, *, quiet: bool = False) -> None:
        from rich.console import Console

        self.text, self.quiet = text, quiet
        self.console = Console(stderr=True)
        shows = self.console.is_terminal and not quiet
        self.status = self.console.status(_plain(text)) if shows else None
        self.reported = time.monotonic()
        self.timer = threading.Timer(_PATIENCE, self._late)
        self.timer.daemon = True
        self.handler = _Stages(self)
        self.level = logging.NOTSET

    def __enter__(self) -> "Progress":
        logger = logging.getLogger("gfx")
        logger.addHandler(self.handler)
        self.level = logger.level
        logger.setLevel(logging.INFO)
        if self.status is not None:
            self.status.start()
        elif not self.quiet:
            self.timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.timer.cancel()
        if self.status is not None:
            self.status.stop()
        logger = logging.getLogger("gfx")
        logger.removeHandler(self.handler)
        logger.setLevel(self.level)

    def stage(self, text: str) -> None:
        """Names the current stage."""
        self.text = text
        if self.status is not None:
            self.status.update(_plain(text))
        elif self.timer.finished.is_set():
            self._late()

    def count(self, done: int, total: int, what: str) -> None:
        """Shows the progress of counted work: a bar on a terminal, else a line now and then."""
        if self.status is not None:
            full = _BAR * done // max(total, 1)
            bar = _plain("━" * full).append("━" * (_BAR - full), style="dim")
            self.status.update(bar.append(f" {done}/{total} {what}"))
        elif not self.quiet and time.monotonic() - self.reported >= _PAUSE:
            self.reported = time.monotonic()
            typer.echo(f"{done} of {total}: {what} …", err=True)

    def _late(self) -> None:
        typer.echo(f"{self.text} …", err=True)


def _plain(text: str) -> "Text":
    """Returns text without markup: a path may hold [brackets]."""
    from rich.text import Text

    return Text(text)


class _Stages(logging.Handler):
    """Forwards log records of gfx to a Progress."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.INFO)
        self.progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self.progress.stage(record.getMessage())
