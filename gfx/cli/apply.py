"""`gfx apply`: applies a recipe to a model and writes the smaller one."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gfx.cli.completion import complete_recipe
from gfx.cli.error_handling import guarded, warn
from gfx.cli.model_argument import open_named
from gfx.cli.options import (
    Debug,
    Evaluate,
    Factory,
    Images,
    Input,
    Json,
    Key,
    Model,
    PairHalf,
    Range,
    Seed,
    Time,
    Trust,
    check_output,
    image_data,
)
from gfx.cli.report import print_report
from gfx.cli.screen import Progress
from gfx.cli.stopping import note_written

__all__ = ["apply"]


@guarded
def apply(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A recipe file, or the name of a shipped one.",
            autocompletion=complete_recipe,
        ),
    ],
    model: Model,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", callback=check_output, help="Where to write: .gfx, or .pt."),
    ],
    inputs: Input = None,
    factory: Factory = None,
    key: Key = None,
    trust: Trust = False,
    evaluate: Evaluate = False,
    data: Images = None,
    scale: Range = None,
    half: PairHalf = None,
    seed: Seed = None,
    time: Time = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Check the program after each pass.")
    ] = True,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Apply a recipe to a model and write the smaller one; print what was done."""
    import gfx
    from gfx.io.atomic_writes import check_writable

    check_writable(output)  # before the long work
    loaded = gfx.Recipe.load(recipe)
    if not verify:
        warn("NOT VERIFIED: --no-verify turns off every check after every pass")
    with Progress(f"opening {model}") as progress:
        opened = open_named(
            model,
            inputs=inputs,
            factory=factory,
            key=key,
            trust=trust,
            evaluate=evaluate,
            seed=seed,
        )
        # inputs of the command line take precedence, then the recipe's, then the model's own
        given = opened.inputs if inputs or loaded.input is None else None
        progress.stage(f"applying {recipe}")
        how: dict[str, Any] = {"seed": seed, "verify": verify, "time": time}
        how |= {"data": image_data(data, half), "range": scale}
        small = gfx.apply(loaded, opened.model, given, **how)
        progress.stage(f"writing {output}")
        gfx.save(small, output)
        note_written(output)
    print_report(gfx.report(small), as_json=as_json)
    typer.echo(f"wrote {output} ({output.stat().st_size:,} bytes)", err=True)
