"""A table as text."""

from typing import TYPE_CHECKING

from gfx.costing import human
from gfx.sensitivity.rows import spelled

if TYPE_CHECKING:
    from gfx.sensitivity.table import Table

__all__ = ["text"]


def text(table: "Table") -> str:
    """Writes the facts, one line a layer, and one a stage."""
    facts = table.facts
    keys = facts.keys
    titles = ["layer", "stage", "kind", "output", "params", "MACs", "share", "group"]
    lines = [[*titles, *map(spelled, keys), "recommend"]]
    for row in table:
        group = f"{row.group or '-'}{'' if row.free else ' (pinned)'}"
        lines.append(
            [
                row.layer,
                row.stage,
                row.kind,
                "x".join(map(str, row.outputs)),
                human(row.params),
                human(row.macs),
                f"{row.share:.1%}",
                f"{group}{' ~' if row.approximate and row.free else ''}",
                *(_damage(row.damage[key]) for key in keys),
                row.recommend,
            ]
        )
    sums = [["stage", "layers", "params", "MACs", "share", *map(spelled, keys)]]
    for stage in table.stages():
        head = [stage.stage, str(stage.layers), human(stage.params), human(stage.macs)]
        sums.append([*head, f"{stage.share:.1%}", *(_damage(stage.damage[key]) for key in keys)])
    how = "measured" if facts.measured else "ranked by one forward and one backward"
    told = [
        f"{facts.model}: {human(facts.macs)} MACs, {human(facts.params)} parameters",
        f"damage: {facts.metric}, {how}, on {facts.examples} examples in {facts.batches} batches",
        *facts.inputs,
        *facts.notes,
    ]
    return "\n".join([*told, "", *_aligned(lines), "", *_aligned(sums)])


def _damage(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _aligned(lines: list[list[str]]) -> list[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
