"""`gfx cost`: counts multiply-accumulates, parameters and bytes."""

from typing import TYPE_CHECKING, Annotated

import typer

from gfx.cli.error_handling import guarded
from gfx.cli.model_argument import open_named
from gfx.cli.options import Debug, Factory, Input, Json, Key, Model, Trust
from gfx.cli.screen import Progress, print_json, print_table, print_text

if TYPE_CHECKING:
    from gfx.costs import Cost

__all__ = ["cost"]


@guarded
def cost(
    model: Model,
    inputs: Input = None,
    factory: Factory = None,
    key: Key = None,
    trust: Trust = False,
    top: Annotated[
        int,
        typer.Option("--top", min=0, help="Nodes to list, most expensive first; 0: all, in order."),
    ] = 15,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Count multiply-accumulates, parameters and bytes, in total and by layer."""
    import gfx

    with Progress(f"opening {model}") as progress:
        opened = open_named(model, inputs=inputs, factory=factory, key=key, trust=trust)
        progress.stage(f"counting {model}")
        figures = gfx.cost(opened.model, opened.inputs)
    if as_json:
        print_json(figures.to_dict())
        return
    print_text(str(figures))
    _print_layers(figures, top)


def _print_layers(figures: "Cost", top: int) -> None:
    """Prints the most expensive layers; all of them, in the order they run, if top is 0."""
    from gfx.costs import human

    total = max(figures.macs.exact, 1)
    nodes = [node for node in figures.nodes if node.macs.exact or node.params]
    shown = sorted(nodes, key=lambda n: -n.macs.exact)[:top] if top else nodes
    rows = [
        (
            node.target,
            node.kind,
            "x".join(map(str, node.shape or ())),
            human(node.macs.exact),
            f"{node.macs.exact / total:.1%}",
            human(node.params),
        )
        for node in shown
    ]
    title = f"{len(shown)} of {len(nodes)} layers"
    print_table(("layer", "kind", "output", "#MACs exact", "#share", "#params"), rows, title)
