"""Writes the files of `gfx inspect`: each appears whole or not at all."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import typer

from gfx.cli.stopping import note_written

if TYPE_CHECKING:
    from gfx.sensitivity import Table

__all__ = ["STDOUT", "Outputs", "check_targets", "write_all"]

STDOUT = "-"


@dataclass(frozen=True)
class Outputs:
    """The output files besides the screen."""

    csv: str | None = None  # a file, or STDOUT
    html: Path | None = None
    plot: Path | None = None
    recipe: Path | None = None
    budget: Mapping[str, Any] | None = None  # of the recipe

    def check(self, *, as_json: bool) -> None:
        """Checks before the long work that everything can be written.

        Raises: typer.BadParameter if two outputs share a place; ArchiveError if a file cannot be
        written; InputError if the plotting package is not installed.
        """
        from gfx.reports.html import check_plotting

        if as_json and self.csv == STDOUT:
            raise typer.BadParameter("--json and --csv - both go to stdout; give --csv a file")
        if self.budget is not None and self.recipe is None:
            raise typer.BadParameter("--budget is what --emit-recipe FILE meets; give that too")
        if self.plot is not None and self.plot.suffix.lower() != ".png":
            raise typer.BadParameter(f"--plot {self.plot} must end in .png")
        check_targets([path for path, _ in self._files()])
        if self.plot is not None:
            check_plotting()

    def write(self, table: "Table") -> dict[Path, int]:
        """Renders everything first, then writes it; returns the files and their sizes in bytes."""
        return write_all({path: make(table) for path, make in self._files()})

    def _files(self) -> "list[tuple[Path, Callable[[Table], bytes]]]":
        from gfx.cli.inspect_tables import to_csv
        from gfx.reports.sensitivity.sensitivity_figure import drawing
        from gfx.reports.sensitivity.sensitivity_page import page

        every: list[tuple[Path | None, Callable[[Table], bytes]]] = [
            (Path(self.csv) if self.csv not in (None, STDOUT) else None, _text(to_csv)),
            (self.html, _text(page)),
            (self.plot, drawing),
            (self.recipe, self._recipe),
        ]
        return [(path, make) for path, make in every if path is not None]

    def _recipe(self, table: "Table") -> bytes:
        from gfx.sensitivity.to_recipe import recipe, recipe_text

        return recipe_text(recipe(table, self.budget)).encode()


def check_targets(paths: Sequence[Path], *, reads: Path | None = None) -> None:
    """Checks before the long work that files can be written, none twice, none over an input.

    Raises: typer.BadParameter or ArchiveError.
    """
    from gfx.io.atomic_writes import check_writable

    targets = [check_writable(path) for path in paths]
    twice = [path for path in targets if targets.count(path) > 1]
    if twice:
        raise typer.BadParameter(f"{twice[0]} is to be written twice; give each file a name")
    if reads is not None and Path(os.path.realpath(reads)) in targets:
        raise typer.BadParameter(f"{reads} is what is read; write to another file")


def write_all(made: Mapping[Path, bytes]) -> dict[Path, int]:
    """Writes files: all appear, each whole, or none. Returns their sizes in bytes."""
    from gfx.io.atomic_writes import write_files

    write_files({path: _writer(content) for path, content in made.items()})
    note_written(*made)
    return {path: len(content) for path, content in made.items()}


def _text(make: "Callable[[Table], str]") -> "Callable[[Table], bytes]":
    return lambda table: make(table).encode()


def _writer(content: bytes) -> Callable[[BinaryIO], None]:
    def write(file: BinaryIO) -> None:
        file.write(content)

    return write
