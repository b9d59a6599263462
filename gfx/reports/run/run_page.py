"""Writes report.html of a run from the files of its folder: curves, pictures, costs."""

from pathlib import Path

__all__ = ["write_run_page"]


def write_run_page(folder: Path) -> None:
    """Writes report.html; it appears whole or not at all."""
