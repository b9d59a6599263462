"""Options of commands that run a generator on data of a task."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "Attributes",
    "FidWeights",
    "ShorterSide",
    "TaskChoice",
    "check_folders",
    "folders_of",
    "share_or_folder",
]


class TaskOption(StrEnum):
    """What a generator is trained to do."""

    paired = "paired"
    unpaired = "unpaired"
    latent = "latent"
    classes = "class"
    labels = "labels"
    super_resolution = "super_resolution"
    own = "self"


TaskChoice = Annotated[
    TaskOption | None,
    typer.Option(
        "--task",
        metavar="TASK",
        help="paired, unpaired, latent, class, labels, super_resolution or self, where model "
        "and data do not tell.",
    ),
]
ShorterSide = Annotated[
    int | None,
    typer.Option("--size", metavar="PIXELS", help="What the shorter side is scaled to."),
]
Attributes = Annotated[
    list[str] | None,
    typer.Option(
        "--attribute",
        metavar="NAME",
        help="A column of the table of attributes; once for each.",
    ),
]
FidWeights = Annotated[
    Path | None,
    typer.Option(
        "--fid-weights", metavar="FILE", help="Weights of Inception, for fd\\[inception]."
    ),
]


def check_folders(given: list[Path] | None) -> None:
    """Refuses --data that is given more than twice."""
    if given is not None and len(given) > 2:
        raise typer.BadParameter(f"--data is given {len(given)} times; give one folder, or two")


def folders_of(given: list[Path] | None) -> Any:
    """Returns what --data names: one folder, two, or None.

    Example:
        >>> folders_of([Path("a"), Path("b")]) == (Path("a"), Path("b"))
        True
    """
    if not given:
        return None
    return given[0] if len(given) == 1 else tuple(given)


def share_or_folder(text: str | None) -> Any:
    """Reads --val: a share, or a folder.

    Example:
        >>> share_or_folder("0.2")
        0.2
    """
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return Path(text)
