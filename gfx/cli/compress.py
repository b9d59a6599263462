"""`gfx compress`: trains a smaller generator by a system, and writes it."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gfx.cli.completion import complete_system
from gfx.cli.error_handling import guarded, warn
from gfx.cli.model_argument import open_named
from gfx.cli.options import (
    Debug,
    Factory,
    Input,
    Json,
    Key,
    Model,
    Range,
    Seed,
    Trust,
    check_output,
    read_budgets,
)
from gfx.cli.run_tables import print_stages
from gfx.cli.screen import Progress, print_json, print_text
from gfx.cli.stopping import note_resumable, note_written
from gfx.cli.task_options import (
    Attributes,
    FidWeights,
    ShorterSide,
    TaskChoice,
    check_folders,
    folders_of,
    share_or_folder,
)

__all__ = ["compress"]


class TrackerOption(StrEnum):
    """What a run is followed with beside its own files."""

    tensorboard = "tensorboard"
    wandb = "wandb"
    trackio = "trackio"


@guarded
def compress(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A recipe file with stages, or the name of a system that ships.",
            autocompletion=complete_system,
        ),
    ],
    model: Model,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="A folder of images; twice: inputs and targets, or two sets. None: latents are "
            "drawn.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Where to write the smaller generator: .gfx, or .pt."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", metavar="DIR", help="The folder of the run; the same command goes on in it."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", metavar="NAME", help="A preset of the recipe, as horse2zebra."),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            metavar="LIMIT",
            help="What the result may cost, in place of the recipe's: macs=0.3, params=2M; once "
            "for each.",
        ),
    ] = None,
    discriminator: Annotated[
        str | None,
        typer.Option(
            "--discriminator",
            metavar="FILE",
            help="A trained one, or zoo:NAME; else the one that suits the task.",
        ),
    ] = None,
    player: Annotated[
        list[str] | None,
        typer.Option(
            "--player",
            metavar="NAME=FILE",
            help="A trained generator that leads back, where the recipe has one that inherits: "
            "back=FILE, back.discriminator=FILE.",
        ),
    ] = None,
    task: TaskChoice = None,
    size: ShorterSide = None,
    crop: Annotated[
        int | None,
        typer.Option("--crop", metavar="PIXELS", help="What training images are cut to."),
    ] = None,
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="Mirror half of them.")] = True,
    value_range: Range = None,
    val: Annotated[
        str | None,
        typer.Option("--val", metavar="SHARE|DIR", help="What is held out: a share, or a folder."),
    ] = None,
    labels: Annotated[
        float | None,
        typer.Option(
            "--labels",
            metavar="SHARE",
            help="The share of pairs whose target is used; else as the recipe says, or all.",
        ),
    ] = None,
    attributes: Attributes = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch", metavar="N", min=1, help="Examples of a step; else as the recipe says."
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="What held-out images are judged by: l1, psnr, ssim, fd\\[efficientnet_lite0].",
        ),
    ] = None,
    fid_weights: FidWeights = None,
    evaluate: Annotated[
        int | None,
        typer.Option("--evaluate", metavar="STEPS", help="Steps between evaluations."),
    ] = None,
    scale: Annotated[
        float,
        typer.Option("--scale", metavar="TIMES", help="All lengths times this: 0.001 is a trial."),
    ] = 1.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print stages, costs, steps, time; train nothing.")
    ] = False,
    device: Annotated[
        str | None, typer.Option("--device", metavar="NAME", help="cpu, cuda; else what there is.")
    ] = None,
    log: Annotated[
        list[TrackerOption] | None,
        typer.Option(
            "--log",
            metavar="NAME",
            help="Also log to tensorboard, wandb or trackio; once for each.",
        ),
    ] = None,
    time: Annotated[
        float | None,
        typer.Option(
            "--time", metavar="SECONDS", help="Stop after this time, to go on by the same command."
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="URL",
            help="What workers share that judge nets of the recipe's search too: each gives "
            "gfx search DIR --storage URL, DIR that of --run.",
        ),
    ] = None,
    inputs: Input = None,
    factory: Factory = None,
    key: Key = None,
    trust: Trust = False,
    seed: Seed = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a smaller generator by a system, on your data, and write it.

    The same command goes on where it stopped.
    """
    import gfx
    from gfx.io.atomic_writes import check_writable

    if output is not None:
        check_output(output)
        check_writable(output)  # before the long work
    elif not dry_run:
        raise typer.BadParameter("give -o FILE, where the smaller generator is to be written")
    check_folders(data)
    folder = Path("runs") / Path(recipe).stem if run is None else run
    with Progress(f"opening {model}") as progress:
        opened = open_named(model, inputs=inputs, factory=factory, key=key, trust=trust, seed=seed)
        if not dry_run:
            note_resumable(folder)
        done = gfx.compress(
            recipe,
            opened.model,
            data=folders_of(data),
            preset=preset,
            budget=read_budgets(budget or ()),
            discriminator=discriminator,
            players=_players(player or ()),
            task=None if task is None else task.value,
            run=folder,
            seed=seed,
            scale=scale,
            size=size,
            crop=crop,
            flip=flip,
            range=value_range,
            val=share_or_folder(val),
            labels=labels,
            attributes=attributes or None,
            batch=batch,
            metrics=metrics or (),
            fid_weights=fid_weights,
            evaluate=evaluate,
            device=device,
            log=[each.value for each in log or ()],
            time=time,
            storage=storage,
            dry_run=dry_run,
            example_inputs=opened.inputs,
        )
        if done.model is not None and output is not None:
            progress.stage(f"writing {output}")
            gfx.save(done.model, output)
            note_written(output)
    _print_run(done, folder, as_json=as_json)
    if done.model is not None and output is not None:
        typer.echo(f"wrote {output} ({output.stat().st_size:,} bytes)", err=True)
    elif not dry_run:
        warn(f"the time is over: the same command goes on in {folder}")


def _players(given: Sequence[str]) -> dict[str, str]:
    """Reads players, each as NAME=FILE."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise typer.BadParameter(f"--player {text}: give NAME=FILE, as back=back.gfx")
        if name in found:
            raise typer.BadParameter(f"--player {name} is given twice; give it once")
        found[name] = path
    return found


def _print_run(done: Any, folder: Path, *, as_json: bool) -> None:
    """Prints what was assumed, the stages with their costs, and how they were judged."""
    if as_json:
        print_json(done.to_dict())
        return
    for said in done.assumed:
        print_text(f"assumed: {said}")
    print_stages(done.plan, done.scores)
    if done.finished:
        print_text(f"{folder}: report.html, log.jsonl, metrics.csv, samples")
