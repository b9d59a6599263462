"""`gfx export`: exports a model as ONNX or as torch.export's .pt2."""

from pathlib import Path
from typing import Annotated

import typer

from gfx.cli.error_handling import guarded, warn
from gfx.cli.model_argument import open_named
from gfx.cli.options import Debug, Factory, Input, Json, Key, Model, Seed, Trust
from gfx.cli.screen import Progress, print_json, print_text
from gfx.cli.stopping import note_written

__all__ = ["export"]


@guarded
def export(
    model: Model,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Where to write: .onnx, or .pt2 (torch.export).")
    ],
    inputs: Input = None,
    factory: Factory = None,
    key: Key = None,
    trust: Trust = False,
    opset: Annotated[
        int | None, typer.Option("--opset", metavar="N", help="The opset of an ONNX file.")
    ] = None,
    static: Annotated[
        bool, typer.Option("--static", help="Fix all sizes at those of the example inputs.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    check: Annotated[
        bool,
        typer.Option("--check/--no-check", help="Compare with the model before the file appears."),
    ] = True,
    seed: Seed = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a model as ONNX or .pt2, once it computes there what it does here."""
    import gfx
    from gfx.deploy.export import check_target

    check_target(output, opset=opset, force=force, check=check)  # before the long work
    if not check:
        warn("NOT CHECKED: --no-check writes the file without running it once")
    with Progress(f"opening {model}") as progress:
        opened = open_named(model, inputs=inputs, factory=factory, key=key, trust=trust, seed=seed)
        progress.stage(f"exporting {model}")
        done = gfx.export(
            opened.model,
            output,
            opened.inputs,
            opset=opset,
            dynamic=not static,
            force=force,
            check=check,
        )
        note_written(output)
    if as_json:
        print_json(done.to_dict())
    else:
        print_text(str(done))
    typer.echo(f"wrote {output} ({done.bytes:,} bytes)", err=True)
