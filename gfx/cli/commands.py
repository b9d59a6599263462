"""Registers the commands. Heavy modules are imported when a command runs."""

from typing import Annotated

import typer

from gfx.cli.apply import apply
from gfx.cli.bench import bench
from gfx.cli.channels import channels
from gfx.cli.compress import compress
from gfx.cli.cost import cost
from gfx.cli.export import export
from gfx.cli.inspect import inspect
from gfx.cli.listings import passes, recipes, zoo
from gfx.cli.report import report
from gfx.cli.search import search

__all__ = ["EXAMPLES", "app"]

app = typer.Typer(
    name="gfx",
    help="Make image generators small and fast.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


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


# in the order in which --help lists them; each with an example, which the tests run
EXAMPLES = {
    apply: "gfx apply half zoo:dcgan -o small.gfx",
    compress: "gfx compress self-distill 'zoo:dcgan?ngf=8' --scale 0.001 -o student.gfx",
    search: "gfx search 'zoo:dcgan?ngf=8' --by random --evaluations 4 --pick 0.5 -o small.gfx",
    cost: "gfx cost zoo:resnet_9blocks --input 1x3x256x256",
    channels: "gfx channels zoo:unet_256",
    inspect: "gfx inspect zoo:dcgan --fast --csv table.csv",
    bench: "gfx bench 'zoo:dcgan?ngf=16' --against zoo:dcgan --rounds 5",
    export: "gfx export zoo:dcgan -o dcgan.pt2",
    recipes: "gfx recipes half",
    passes: "gfx passes channel_prune",
    zoo: "gfx zoo dcgan",
    report: "gfx report small.gfx --html small.html",
}
_BEFORE = {report: f"{EXAMPLES[apply]} writes a small.gfx. "}
for command, example in EXAMPLES.items():
    app.command(epilog=f"{_BEFORE.get(command, '')}Example: {example}")(command)
