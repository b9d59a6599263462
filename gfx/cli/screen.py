"""What the shell shows: tables or JSON on stdout, progress on stderr."""

import json
import logging
import sys
import threading
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

import typer

__all__ = ["Progress", "print_json", "print_table"]

_PATIENCE = 1.0  # seconds before progress is reported where there is no terminal
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
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


class Progress:
    """Shows on stderr what is going on: a spinner on a terminal, else lines after a second.

    The stages are those that gfx logs.
    """

    def __init__(self, text: str) -> None:
        from rich.console import Console

        self.text = text
        self.console = Console(stderr=True)
        self.status = self.console.status(text) if self.console.is_terminal else None
        self.timer = threading.Timer(_PATIENCE, self._late)
        self.timer.daemon = True
        self.handler = _Stages(self)
        self.level = logging.NOTSET

    def __enter__(self) -> "Progress":
        logger = logging.getLogger("gfx")
        logger.addHandler(self.handler)
        self.level = logger.level
        logger.setLevel(logging.INFO)
        if self.status is None:
            self.timer.start()
        else:
            self.status.start()
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
        """Says what happens from now on."""
        self.text = text
        if self.status is not None:
            self.status.update(text)
        elif self.timer.finished.is_set():
            self._late()

    def _late(self) -> None:
        typer.echo(f"{self.text} …", err=True)


class _Stages(logging.Handler):
    """Hands what gfx logs to a Progress."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.INFO)
        self.progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self.progress.stage(record.getMessage())
