"""`gfx channels`: lists the groups of channels that can only be removed together."""

from typing import TYPE_CHECKING, Annotated, Any

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
        after = ""
        if not as_json and not all(group.free for group in groups):
            progress.stage("analysing what folding would leave")
            after = _once_folded(groups, attention.value, group_norm.value)
    if as_json:
        print_json([group.to_dict() for group in groups])
        return
    _print_groups(groups, after)


def _once_folded(groups: "Groups", attention: Any, group_norm: Any) -> str:
    """Says how many groups are free once computed weights are folded; "" if there are none."""
    import gfx

    program = groups.program
    recipe = {"passes": ["fold_parametrizations"]}
    try:
        plain = gfx.apply(recipe, program.module, program.example_inputs, verify=False)
        if not gfx.report(plain).passes[0].changes:
            return ""
        again = gfx.channels(
            plain, program.example_inputs, attention=attention, group_norm=group_norm
        )
    except gfx.GfxError:
        return ""  # it only informs
    free = sum(group.free for group in again)
    return f"; {free} of {len(again)} once fold_parametrizations has folded its computed weights"


def _print_groups(groups: "Groups", after: str) -> None:
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
        f"{len(rows)} groups, {free} free{after}",
    )
