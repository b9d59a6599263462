"""`gfx report`: shows the report in a .gfx file, or how far the run of a folder is.

As text, JSON, a page or, of a file, a picture.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from gfx.cli.completion import complete_model
from gfx.cli.error_handling import guarded
from gfx.cli.model_argument import Opened, open_named
from gfx.cli.options import Debug, Factory, Input, Json, Key, Trust
from gfx.cli.output_files import check_targets, write_all
from gfx.cli.run_tables import report_run
from gfx.cli.screen import Progress, print_json

if TYPE_CHECKING:
    from torch import fx

    from gfx.pipeline.report import Report
    from gfx.reports.result import Latency
    from gfx.sensitivity import Table

__all__ = ["print_report", "report"]

_BYTES = ("png", "data")  # fields with bytes of pictures and inputs


@guarded
def report(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A .gfx file that gfx apply wrote, or a folder of gfx compress."
        ),
    ],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page to look at.")
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option("--png", metavar="FILE", help="Draw cost and widths; needs matplotlib."),
    ] = None,
    original: Annotated[
        str | None,
        typer.Option(
            "--original",
            metavar="MODEL",
            help="What the file was made from, if the file keeps too little of it.",
            autocompletion=complete_model,
        ),
    ] = None,
    factory: Factory = None,
    key: Key = None,
    inputs: Input = None,
    trust: Trust = False,
    latency: Annotated[
        bool, typer.Option("--latency/--no-latency", help="Measure, for the page, what takes long.")
    ] = True,
    sensitivity: Annotated[
        bool,
        typer.Option(
            "--sensitivity/--no-sensitivity", help="Estimate, for the page, what bears more."
        ),
    ] = True,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Print the report that is stored in a .gfx file, or write it as a page or picture.

    Of the folder of a run: how far it is, its stages and their scores.
    """
    import gfx
    from gfx.reports.html import check_plotting

    if os.path.isdir(file):
        _of_a_file({"--png": png, "--original": original, "--input": inputs or None})
        report_run(file, html, as_json=as_json)
        return
    check_targets([path for path in (html, png) if path is not None], reads=file)
    if png is not None and png.suffix.lower() != ".png":
        raise typer.BadParameter(f"--png {png} must end in .png")
    if png is not None:
        check_plotting()
    module = _opened(file, trust)
    stored = gfx.report(module)
    if html is None and png is None:
        _without_use(original=original)
        print_report(stored, as_json=as_json)
        return
    with Progress(f"reading {file}") as progress:
        given = None
        if original is not None:
            progress.stage(f"opening {original}")
            given = _original(original, inputs, (factory, key), trust, stored)
        made = _made(module, given, html, png, (latency, sensitivity), progress.stage)
        sizes = write_all(made)
    if as_json:
        print_report(stored, as_json=True)
    for path, size in sizes.items():
        typer.echo(f"wrote {path} ({size:,} bytes)", err=True)


def _opened(file: Path, trust: bool) -> "fx.GraphModule":
    """Opens a file with a report; says what any other is."""
    from torch import fx

    import gfx
    from gfx.errors import ArchiveError
    from gfx.io.archive.file_kinds import WORDS, kind_of
    from gfx.io.archive.files import regular_file

    kind = kind_of(regular_file(file))
    asks = f"gfx report shows what gfx apply wrote into a .gfx file, and {file} is {WORDS[kind]}"
    try:
        module = gfx.load(file, trust=trust)
    except ArchiveError as error:
        if kind == "gfx":
            raise
        raise ArchiveError(f"{asks}: {error}") from error
    reported = isinstance(module, fx.GraphModule) and hasattr(module, "gfx_report")
    look = f"gfx cost {file} and gfx inspect {file} look at it"
    if not reported and kind == "gfx":
        raise ArchiveError(f"{file} has no gfx report, only gfx apply writes one; {look}")
    if not reported:
        name = type(module).__name__
        raise ArchiveError(f"{asks} with a {name}, which has no report; {look}")
    return cast("fx.GraphModule", module)


def print_report(report: "Report", *, as_json: bool) -> None:
    """Prints a report as text, or as JSON without the bytes of its pictures."""
    if not as_json:
        typer.echo(str(report))
        return
    data = report.to_dict()
    print_json(data | {"record": _readable(data["record"])})


def _of_a_file(given: Mapping[str, object]) -> None:
    for name, value in given.items():
        if value is not None:
            raise typer.BadParameter(f"{name} {value} is for a .gfx file; a run has --html, --json")


def _without_use(*, original: str | None) -> None:
    if original is not None:
        raise typer.BadParameter(
            f"--original {original} is for --html and --png; the text is that of the file"
        )


def _original(
    name: str,
    inputs: Any,
    built: tuple[str | None, str | None],
    trust: bool,
    stored: "Report",
) -> "Opened":
    """Opens the original, seeded as the recipe was; its inputs are those of the report."""
    from gfx.pipeline.recipe import Recipe

    factory, key = built
    seed = stored.recipe.get("seed")
    specs = inputs or list(Recipe.load(stored.recipe).input or ())
    return open_named(name, inputs=specs, factory=factory, key=key, trust=trust, seed=seed)


def _made(
    module: "fx.GraphModule",
    original: "Opened | None",
    html: Path | None,
    png: Path | None,
    asked: tuple[bool, bool],
    stage: Callable[[str], None],
) -> dict[Path, bytes]:
    """Renders everything before anything is written."""
    from gfx.reports.result import drawing, page

    model, inputs = (None, None) if original is None else (original.model, original.inputs)
    made: dict[Path, bytes] = {}
    if html is not None:
        latency, sensitivity = asked
        text = page(
            module,
            original=model,
            inputs=inputs,
            latency=_latency(module, original, stage) if latency else "Left out: --no-latency.",
            sensitivity=_table(module, stage) if sensitivity else "Left out: --no-sensitivity.",
        )
        made[html] = text.encode()
    if png is not None:
        stage("drawing")
        made[png] = drawing(module, original=model, inputs=inputs)
    return made


def _table(module: "fx.GraphModule", stage: Callable[[str], None]) -> "Table | str":
    """Estimates the effect of shrinking layers further; says why if that is not possible."""
    import gfx

    stage("estimating sensitivity")
    try:
        return gfx.inspect(module, fast=True)
    except gfx.GfxError as error:
        return f"Not estimated: {error}."


def _latency(
    module: "fx.GraphModule", original: "Opened | None", stage: Callable[[str], None]
) -> "Latency | str":
    """Measures the latency of each node, also against the original; says why if that fails."""
    import gfx
    from gfx.reports.result import profiled

    stage("measuring latency")
    try:
        if original is None:
            return profiled(module)
        return profiled(module, original=original.model, inputs=original.inputs)
    except gfx.GfxError as error:
        return f"Not measured: {error}."


def _readable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _readable(item) for key, item in value.items() if key not in _BYTES}
    return [_readable(item) for item in value] if isinstance(value, list) else value
