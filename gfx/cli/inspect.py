"""`gfx inspect`: measures damage and saving of shrinking each layer."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gfx.cli.error_handling import guarded
from gfx.cli.inspect_tables import print_findings, to_csv
from gfx.cli.model_argument import open_named
from gfx.cli.options import (
    Debug,
    Evaluate,
    Factory,
    Images,
    Init,
    Input,
    Json,
    Key,
    Kind,
    Model,
    NormOption,
    PairHalf,
    Range,
    Seed,
    Time,
    Trust,
    image_data,
    measure,
    parse_budget_option,
)
from gfx.cli.output_files import STDOUT, Outputs
from gfx.cli.screen import Progress, print_json
from gfx.progress import time_limit

if TYPE_CHECKING:
    from gfx.sensitivity import Table

__all__ = ["inspect"]


def _rank(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no number such as 2, or a share such as 0.5"
        ) from error


@guarded
def inspect(
    model: Model,
    inputs: Input = None,
    factory: Factory = None,
    key: Key = None,
    trust: Trust = False,
    evaluate: Evaluate = False,
    data: Images = None,
    scale: Range = None,
    half: PairHalf = None,
    batches: Annotated[
        int | None, typer.Option("--batches", min=1, help="Batches to run the model on.")
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="relative_l2, psnr, ssim, feature, or your own package.module:function.",
        ),
    ] = "relative_l2",
    features: Annotated[
        str | None,
        typer.Option(
            "--extractor",
            metavar="PKG.MOD:FACTORY",
            help="What makes the feature extractor of --metric feature.",
        ),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layers", metavar="GLOB", help="Only these layers; may be repeated."),
    ] = None,
    kind: Annotated[
        Kind,
        typer.Option(
            metavar="FORM",
            help="What to decompose to: depthwise_separable, spatial, tucker or low_rank.",
        ),
    ] = Kind.depthwise_separable,
    rank: Annotated[
        Any, typer.Option("--rank", parser=_rank, help="Its rank, or a share of the full.")
    ] = None,
    norm: Annotated[NormOption, typer.Option(help="Between its parts.")] = NormOption.none,
    init: Annotated[Init, typer.Option(help="Where its weights come from.")] = Init.svd,
    tolerate: Annotated[
        float,
        typer.Option("--tolerate", min=0.0, help="Damage up to which a change is recommended."),
    ] = 0.05,
    fast: Annotated[
        bool, typer.Option("--fast", help="Estimate from one forward and one backward.")
    ] = False,
    budget: Annotated[
        Any,
        typer.Option(
            "--budget",
            parser=parse_budget_option,
            metavar="BUDGET",
            help="What --emit-recipe meets.",
        ),
    ] = None,
    emit: Annotated[
        Path | None,
        typer.Option("--emit-recipe", metavar="FILE", help="Write a recipe that acts on it."),
    ] = None,
    as_csv: Annotated[
        str | None, typer.Option("--csv", metavar="FILE", help="Write CSV; to stdout if it is -.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page to look at.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PNG", help="Draw it; needs matplotlib.")
    ] = None,
    seed: Seed = None,
    time: Time = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure layer by layer what shrinking would do to the output, and what it would save."""
    import gfx

    outputs = Outputs(csv=as_csv, html=html, plot=plot, recipe=emit, budget=budget)
    outputs.check(as_json=as_json)
    distance, made = measure(metric, features)
    speaks = not int(os.environ.get("RANK", "0"))  # of several processes only the first
    with Progress(f"opening {model}", quiet=not speaks) as progress:
        opened = open_named(
            model,
            inputs=inputs,
            factory=factory,
            key=key,
            trust=trust,
            evaluate=evaluate,
            seed=seed,
        )
        progress.stage(f"inspecting {model}")
        table = gfx.inspect(
            opened.model,
            opened.inputs,
            image_data(data, half),
            metric=distance,
            extractor=made,
            layers=tuple(layers or ("*",)),
            kind=kind.value,
            rank=rank,
            norm=norm.value,
            init=init.value,
            batches=batches,
            tolerate=tolerate,
            fast=fast,
            seed=seed or 0,
            range=scale,
            time=time,
        )
        if not speaks:
            return
        progress.stage("writing")
        with time_limit(time):
            written = outputs.write(table)
    _print(table, as_json=as_json, as_csv=as_csv == STDOUT)
    for path, size in written.items():
        typer.echo(f"wrote {path} ({size:,} bytes)", err=True)


def _print(table: "Table", *, as_json: bool, as_csv: bool) -> None:
    """Prints the table as JSON, as CSV, or to read."""
    if as_json:
        print_json(table.to_dict())
    elif as_csv:
        typer.echo(to_csv(table), nl=False)
    else:
        print_findings(table)
