"""`gfx channels`: lists the groups of channels that can only be removed together."""

from typing import TYPE_CHECKING, Annotated

import typer

from gfx.cli.error_handling import guarded
from gfx.cli.model_argument import open_named
from gfx.cli.options import Attention, Debug, Factory, GroupNorm, Input, Json, Key, Model, Trust
from gfx.cli.screen import Progress, print_json, print_table

if TYPE_CHECKING:
    from gfx.coupling import Groups

__all__ = ["channels"]


@guarded
def channels(
    model: Model,
    inputs: Input = None,
    factory: Factory = None,
    key: Key = None,
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
        opened = open_named(model, inputs=inputs, factory=factory, key=key, trust=trust)
        progress.stage(f"analysing {model}")
        groups = gfx.channels(
            opened.model, opened.inputs, attention=attention.value, group_norm=group_norm.value
        )
    if as_json:
        print_json([group.to_dict() for group in groups])
        return
    _print_groups(groups)


def _print_groups(groups: "Groups") -> None:
    """Prints the channel groups, with the reason where one is pinned."""
    rows = [
        (
            group.name,
            str(group.width),
            "free" if group.free else f"pinned: {group.pinned or 'a single channel'}",
            "exact" if group.exact else f"approximate: {group.approximate}",
            ", ".join(group.producers),
            ", ".join(group.consumers),
        )
        for group in groups
    ]
    free = sum(group.free for group in groups)
    print_table(
        ("group", "#channels", "state", "removal", "written by", "read by"),
        rows,
        f"{len(rows)} groups, {free} free",
    )
