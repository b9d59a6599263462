"""`gfx report`: what is stored in a .gfx file, as text and JSON."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gfx.cli.guard import guarded
from gfx.cli.options import Debug, Json
from gfx.cli.screen import print_json

if TYPE_CHECKING:
    from gfx.reporting import Report

__all__ = ["print_report", "report"]

_BYTES = ("png", "data")  # fields of pictures and inputs, nothing to read


@guarded
def report(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .gfx file that gfx apply wrote.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Print the report that is stored in a .gfx file."""
    import gfx

    print_report(gfx.report(gfx.load(file)), as_json=as_json)


def print_report(report: "Report", *, as_json: bool) -> None:
    """Prints a report as text, or as JSON without the bytes of its pictures."""
    if not as_json:
        typer.echo(str(report))
        return
    data = report.to_dict()
    print_json(data | {"record": _readable(data["record"])})


def _readable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _readable(item) for key, item in value.items() if key not in _BYTES}
    return [_readable(item) for item in value] if isinstance(value, list) else value
