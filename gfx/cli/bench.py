"""`gfx bench`: measures a model, alone or against another, and times its nodes."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gfx.cli.completion import complete_model
from gfx.cli.error_handling import guarded
from gfx.cli.model_argument import Opened, open_named
from gfx.cli.options import Debug, Factory, Input, Json, Key, Model, Seed, Trust
from gfx.cli.screen import Progress, print_json, print_table, print_text
from gfx.errors import ArchiveError

if TYPE_CHECKING:
    from gfx.deploy.bench import Profile

__all__ = ["bench"]


class ProtocolOption(StrEnum):
    """Measuring protocols of papers."""

    paper = "paper"


@guarded
def bench(
    model: Model,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="OTHER",
            help="The model to compare with, as MODEL.",
            autocompletion=complete_model,
        ),
    ] = None,
    inputs: Input = None,
    factory: Factory = None,
    key: Key = None,
    trust: Trust = False,
    backend: Annotated[
        str, typer.Option("--backend", metavar="NAME", help="eager, compile or onnxruntime.")
    ] = "eager",
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Threads of the processor.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="NAME", help="cpu, cuda or cuda:1.")
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option("--rounds", help="Timed runs of each, in turns; else what 20 s allow."),
    ] = None,
    warmups: Annotated[
        int | None, typer.Option("--warmups", help="Runs of each before the clock runs; else 3.")
    ] = None,
    protocol: Annotated[
        ProtocolOption | None,
        typer.Option("--protocol", help="paper: batch 1, 100 warm-ups, 100 runs."),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile/--no-profile", help="Time MODEL layer by layer.")
    ] = True,
    memory: Annotated[
        bool, typer.Option("--memory/--no-memory", help="Measure peak memory.")
    ] = True,
    top: Annotated[
        int, typer.Option("--top", min=0, help="Layers to list, slowest first; 0: all, in order.")
    ] = 15,
    seed: Seed = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure latency, throughput, memory and MACs; the speed-up against another model."""
    import gfx

    names = (model, against or "")
    with Progress(f"opening {model}"):
        first, *others = [
            _opened(name, inputs, (factory, key), trust, seed, alone=against is None)
            for name in (model, against)
            if name is not None
        ]
        second = others[0] if others else None
        found = gfx.bench(
            first.model,
            _inputs(first, second, names),
            against=None if second is None else second.model,
            backend=backend,  # type: ignore[arg-type]
            threads=threads,
            device=device,
            rounds=rounds,
            warmups=warmups,
            protocol=None if protocol is None else protocol.value,
            profile=profile,
            memory=memory,
            names=names,
        )
    if as_json:
        print_json(found.to_dict())
        return
    print_text(str(found))
    _print_profile(found.profile, model, top)


def _print_profile(profile: "Profile | str", model: str, top: int) -> None:
    """Prints the slowest nodes of a model; all of them, in the order they run, if top is 0."""
    from gfx.deploy.bench.bench_result import COLUMNS, rows

    if isinstance(profile, str):
        return
    shown = rows(profile, top)
    title = f"{len(shown)} of {len(profile.nodes)} nodes of {model}, in {profile.backend}"
    print_table(COLUMNS, shown, title)


def _opened(
    name: str,
    inputs: list[Any] | None,
    built: tuple[str | None, str | None],
    trust: bool,
    seed: int | None,
    *,
    alone: bool,
) -> Opened:
    """Opens a model; of two, the factory and the key are for the one that needs them."""
    factory, key = built
    known: dict[str, Any] = {"inputs": inputs, "trust": trust, "seed": seed}
    if alone or (factory is None and key is None):
        return open_named(name, factory=factory, key=key, **known)
    try:
        return open_named(name, factory=None, **known)
    except ArchiveError:
        return open_named(name, factory=factory, key=key, **known)


def _inputs(first: Opened, second: Opened | None, names: tuple[str, str]) -> Any:
    """Returns the inputs that both are timed on; None if neither has any."""
    from gfx.deploy.bench import check_alike

    known = [opened.inputs for opened in (first, second) if opened and opened.inputs is not None]
    if len(known) == 2:
        check_alike(names, *known)
    return known[0] if known else None
