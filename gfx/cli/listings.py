"""What the tables of the shell say."""

import dataclasses
from typing import TYPE_CHECKING, Any

from gfx.cli.screen import print_table

if TYPE_CHECKING:
    from gfx.contract import Pass
    from gfx.costs import Cost
    from gfx.coupling import Groups

__all__ = ["describe_pass", "print_groups", "print_layers"]


def describe_pass(kind: "type[Pass]", origin: str) -> dict[str, Any]:
    """Returns a pass's name, first docstring line, fields with their defaults, and origin.

    Example:
        >>> from passes.fuse_batch_norm import FuseBatchNorm
        >>> describe_pass(FuseBatchNorm, "gfx")["name"]
        'fuse_batch_norm'
    """
    from gfx.io.plain_data import plain

    fields = {f.name: plain(_default(f)) for f in dataclasses.fields(kind) if f.init}
    about = (kind.__doc__ or "").strip().partition("\n")[0]
    return {"name": kind.name, "about": about, "fields": fields, "origin": origin}


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return "(required)"


def print_layers(figures: "Cost", top: int) -> None:
    """Prints the dearest layers; all of them, in the order they run, if top is 0."""
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


def print_groups(groups: "Groups") -> None:
    """Prints the channel groups, with the reason where one is pinned."""
    rows = [
        (
            group.name,
            str(group.size),
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
