"""`gfx search`: finds nets that none is both cheaper and better than, and writes one of them."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gfx.cli.completion import complete_model
from gfx.cli.error_handling import guarded, warn
from gfx.cli.model_argument import open_named
from gfx.cli.options import (
    Debug,
    Factory,
    Input,
    Json,
    Key,
    Range,
    Seed,
    Trust,
    check_output,
    read_budgets,
)
from gfx.cli.screen import Progress, print_json, print_table, print_text
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

if TYPE_CHECKING:
    from gfx.reports.front import FrontSearch

__all__ = ["search"]


class ByOption(StrEnum):
    """How nets are proposed."""

    survey = "survey"
    evolution = "evolution"
    nsga2 = "nsga2"
    tpe = "tpe"
    random = "random"


@guarded
def search(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A supernet, or any generator: a file, or zoo:NAME; or the folder of a search.",
            autocompletion=complete_model,
        ),
    ],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="A folder of images; twice: inputs and targets, or two sets. None: latents are "
            "drawn.",
        ),
    ] = None,
    by: Annotated[
        ByOption,
        typer.Option(
            "--by",
            metavar="NAME",
            help="How nets are proposed: survey, evolution, nsga2, tpe or random.",
        ),
    ] = ByOption.survey,
    evaluations: Annotated[
        int | None,
        typer.Option(
            "--evaluations",
            metavar="N",
            min=1,
            help="Nets that are judged; else 200, or 40 that are refitted.",
        ),
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(
            "--score",
            metavar="NAME",
            help="What nets are judged by: l1, psnr, ssim, fd\\[efficientnet_lite0].",
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            metavar="LIMIT",
            help="No net costs more: macs=0.3, params=2M; once for each. The first is the cost of "
            "the front.",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="URL",
            help="What several workers share; each gives the same command. With the folder of a "
            "run of gfx compress that has it too: judge nets of its search.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", metavar="DIR", help="The folder of the search; the same command goes on in it."
        ),
    ] = None,
    pick: Annotated[
        str | None,
        typer.Option(
            "--pick",
            metavar="LIMIT",
            help="Write the best net within it: macs=2.67G, params=0.5, or l1=0.05.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Where to write the net of --pick: .gfx, or .pt."),
    ] = None,
    examples: Annotated[
        int,
        typer.Option("--examples", metavar="N", min=4, help="How many are searched on."),
    ] = 64,
    time: Annotated[
        float | None,
        typer.Option(
            "--time",
            metavar="SECONDS",
            help="End the search after this time, with the front of what was judged.",
        ),
    ] = None,
    task: TaskChoice = None,
    size: ShorterSide = None,
    crop: Annotated[
        int | None, typer.Option("--crop", metavar="PIXELS", help="What images are cut to.")
    ] = None,
    value_range: Range = None,
    val: Annotated[
        str | None,
        typer.Option(
            "--val", metavar="SHARE|DIR", help="What the front is judged on: a share, or a folder."
        ),
    ] = None,
    attributes: Attributes = None,
    fid_weights: FidWeights = None,
    inputs: Input = None,
    factory: Factory = None,
    key: Key = None,
    trust: Trust = False,
    seed: Seed = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find the nets of a generator that none is both cheaper and better than.

    A supernet is judged as it is; any other generator is pruned and refitted, without training.
    The same command goes on where it stopped.
    """
    import gfx
    from gfx.io.atomic_writes import check_writable

    if (pick is None) != (output is None):
        raise typer.BadParameter("--pick LIMIT and -o FILE go together; give both")
    if output is not None:
        check_output(output)
        check_writable(output)  # before the long work
    check_folders(data)
    limits = read_budgets(budget or ())
    folder = Path("runs") / "search" if run is None else run
    images = folders_of(data)
    with Progress(f"opening {model}") as progress:
        if Path(model).is_dir():
            found = gfx.search(
                model,
                data=images,
                evaluations=evaluations,
                score=score,
                budget=limits,
                storage=storage,
                run=run,
                time=time,
                fid_weights=fid_weights,
            )
            folder = found.folder if storage is not None else Path(model)
        else:
            opened = open_named(
                model, inputs=inputs, factory=factory, key=key, trust=trust, seed=seed
            )
            note_resumable(folder)
            found = gfx.search(
                opened.model,
                data=images,
                by=by.value,
                evaluations=evaluations,
                score=score,
                budget=limits,
                storage=storage,
                run=folder,
                time=time,
                seed=seed or 0,
                examples=examples,
                task=None if task is None else task.value,
                size=size,
                crop=crop,
                range=value_range,
                val=share_or_folder(val),
                attributes=attributes or None,
                fid_weights=fid_weights,
                example_inputs=opened.inputs,
            )
        if pick is not None and output is not None:
            small = found.pick(pick)
            progress.stage(f"writing {output}")
            gfx.save(small, output)
            note_written(output)
    _print_front(found, folder, as_json=as_json)
    if not found.finished:
        warn(f"the time is over: the same command goes on in {folder}")
    if output is not None:
        typer.echo(f"wrote {output} ({output.stat().st_size:,} bytes)", err=True)


def _print_front(found: "FrontSearch", folder: Path, *, as_json: bool) -> None:
    """Prints what was assumed, and a row for each net of the front."""
    from gfx.costs import human

    if as_json:
        print_json(found.to_dict())
        return
    for said in found.assumed:
        print_text(f"assumed: {said}")
    front = found.front
    rows = [
        (
            str(number),
            human(net.prices["exact"]),
            f"{net.prices['exact'] / max(front.whole.prices['exact'], 1):.1%}",
            f"{net.prices['params']:,}",
            f"{net.value:.4g}",
            f"{net.low:.4g} … {net.high:.4g}" if net.low < net.high else "-",
            net.verdict,
        )
        for number, net in enumerate(front.nets, 1)
    ]
    columns = ("net", "#MACs", "#share", "#parameters", f"#{front.score}", "#95 %", "told")
    print_table(columns, rows)
    print_text(f"{found.judged} nets were judged; {front.sentence}")
    print_text(f"{folder}: front.html, front.json, nets")
