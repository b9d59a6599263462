"""The commands. What is heavy is imported when a command runs, so that --help is quick."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gfx.cli.bench import bench
from gfx.cli.error_handling import guarded, warn
from gfx.cli.export import export
from gfx.cli.inspect import inspect
from gfx.cli.listings import describe_pass, print_groups, print_layers
from gfx.cli.model_argument import Opened, open_named
from gfx.cli.options import (
    Attention,
    Debug,
    Evaluate,
    Factory,
    GroupNorm,
    Images,
    Input,
    Json,
    Model,
    Seed,
    Trust,
)
from gfx.cli.report import print_report, report
from gfx.cli.screen import Progress, print_json, print_table

__all__ = ["app", "main"]

app = typer.Typer(
    name="gfx",
    help="Make image generators small and fast.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Runs the shell."""
    app()


def _print_version(wanted: bool) -> None:
    from importlib.metadata import PackageNotFoundError, version

    if not wanted:
        return
    try:
        typer.echo(f"gfx {version('gfx-compiler')}")
    except PackageNotFoundError:
        typer.echo("gfx, from source, not installed")
    raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def _output(path: Path) -> Path:
    if path.suffix not in (".gfx", ".pt", ".pth"):
        raise typer.BadParameter(f"{path} must end in .gfx (an archive) or .pt (a pickle)")
    return path


@app.command()
@guarded
def apply(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a shipped one.")
    ],
    model: Model,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", callback=_output, help="Where to write: .gfx, or .pt."),
    ],
    inputs: Input = None,
    factory: Factory = None,
    trust: Trust = False,
    evaluate: Evaluate = False,
    data: Images = None,
    seed: Seed = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Check the program after each pass.")
    ] = True,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Apply a recipe to a model and write the smaller one; print what was done."""
    import gfx
    from gfx.io.archive import check_writable

    check_writable(output)  # before the long work
    loaded = gfx.Recipe.load(recipe)
    if not verify:
        warn("NOT VERIFIED: --no-verify turns off every check after every pass")
    with Progress(f"opening {model}") as progress:
        opened = open_named(
            model, inputs=inputs or [], factory=factory, trust=trust, evaluate=evaluate, seed=seed
        )
        # what the command line says goes first, then the recipe, then what came with the model
        given = opened.inputs if inputs or loaded.input is None else None
        progress.stage(f"applying {recipe}")
        small = gfx.apply(loaded, opened.model, given, data=data, seed=seed, verify=verify)
        progress.stage(f"writing {output}")
        gfx.save(small, output)
    print_report(gfx.report(small), as_json=as_json)
    typer.echo(f"wrote {output} ({output.stat().st_size:,} bytes)", err=True)


@app.command()
@guarded
def cost(
    model: Model,
    inputs: Input = None,
    factory: Factory = None,
    trust: Trust = False,
    top: Annotated[
        int, typer.Option("--top", min=0, help="Nodes to list, dearest first; 0: all, in order.")
    ] = 15,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Count multiply-accumulates, parameters and bytes, in total and by layer."""
    import gfx

    with Progress(f"opening {model}") as progress:
        opened = _open(model, inputs, factory, trust)
        progress.stage(f"counting {model}")
        figures = gfx.cost(opened.model, opened.inputs)
    if as_json:
        print_json(figures.to_dict())
        return
    typer.echo(str(figures))
    print_layers(figures, top)


@app.command()
@guarded
def channels(
    model: Model,
    inputs: Input = None,
    factory: Factory = None,
    trust: Trust = False,
    attention: Annotated[
        Attention,
        typer.Option(help="A channel of attention: one index of every head, or a whole head."),
    ] = Attention.width,
    group_norm: Annotated[
        GroupNorm,
        typer.Option(help="What goes of a GroupNorm: whole groups, or some of each (regroup)."),
    ] = GroupNorm.auto,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the groups of channels that can only be removed together."""
    import gfx

    with Progress(f"opening {model}") as progress:
        opened = _open(model, inputs, factory, trust)
        progress.stage(f"analysing {model}")
        groups = gfx.channels(
            opened.model, opened.inputs, attention=attention.value, group_norm=group_norm.value
        )
    if as_json:
        print_json([group.to_dict() for group in groups])
        return
    print_groups(groups)


app.command()(inspect)
app.command()(bench)
app.command()(export)


@app.command()
@guarded
def recipes(as_json: Json = False, debug: Debug = False) -> None:
    """List the recipes that ship with gfx."""
    from gfx.pipeline.recipe import Recipe, shipped

    loaded = {name: Recipe.load(name) for name in shipped()}
    if as_json:
        print_json({name: recipe.spec() for name, recipe in loaded.items()})
        return
    rows = [
        (name, recipe.about, ", ".join(pass_.name for pass_ in recipe.passes))
        for name, recipe in loaded.items()
    ]
    print_table(("recipe", "about", "passes"), rows)


@app.command()
@guarded
def passes(as_json: Json = False, debug: Debug = False) -> None:
    """List the passes that are installed, with their fields."""
    from gfx.pipeline.registry import discover

    found = discover()
    for broken in found.broken:
        warn(f"plugin {broken.plugin} could not be loaded: {broken.why}")
    described = [describe_pass(kind, found.origins[name]) for name, kind in found.passes.items()]
    if as_json:
        print_json(described)
        return
    rows = [
        (d["name"], d["about"], ", ".join(f"{k}={v}" for k, v in d["fields"].items()), d["origin"])
        for d in described
    ]
    print_table(("pass", "about", "fields", "from"), rows)


@app.command()
@guarded
def zoo(as_json: Json = False, debug: Debug = False) -> None:
    """List the reference generators, for MODEL as zoo:NAME or zoo:NAME?option=value."""
    from gfx import zoo as generators

    found = [
        (name, generators.about(name), generators.options(name)) for name in generators.names()
    ]
    if as_json:
        print_json([dict(zip(("name", "about", "options"), row, strict=True)) for row in found])
        return
    rows = [(n, text, ", ".join(f"{k}={v}" for k, v in known.items())) for n, text, known in found]
    print_table(("generator", "about", "options"), rows)


app.command()(report)


def _open(model: str, inputs: list[Any] | None, factory: str | None, trust: bool) -> Opened:
    return open_named(
        model, inputs=inputs or [], factory=factory, trust=trust, evaluate=False, seed=None
    )
