"""Writes a sensitivity table as text: its facts, one line for each layer, one for each stage."""

from collections.abc import Iterable

from gfx.costs import human
from gfx.io.text_lines import display_width, padded
from gfx.sensitivity import Key, Row, Table
from gfx.sensitivity.rows import spelled

__all__ = ["described", "figure", "remarks", "shape", "text", "title"]


def text(table: Table) -> str:
    """Writes the facts, one line for each layer, and one for each stage."""
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
    heading = [
        f"{facts.model}: {human(facts.macs)} MACs, {human(facts.params)} parameters",
        f"damage: {facts.metric}, {how}, on {facts.examples} examples in {facts.batches} batches",
        *facts.inputs,
        *facts.notes,
    ]
    return "\n".join([*heading, "", *_aligned(lines), "", *_aligned(sums)])


def _damage(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _aligned(lines: list[list[str]]) -> list[str]:
    widths = [max(display_width(line[column]) for line in lines) for column in range(len(lines[0]))]
    return [
        "  ".join(padded(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def described(table: Table) -> dict[str, str]:
    """Lists the facts of a table, by heading.

    Example:
        >>> import gfx
        >>> described(gfx.inspect(gfx.zoo.build("dcgan", ngf=4)))["metric"]
        'relative_l2, up to 0.05 is tolerated'
    """
    facts = table.facts
    examples = f"{facts.examples} example{'s' * (facts.examples != 1)}"
    batches = f"{facts.batches} batch{'es' * (facts.batches != 1)}"
    how = "measured, each change alone" if facts.measured else "estimated from one backward (fast)"
    return {
        "MACs": f"{human(facts.macs)} ({facts.macs:,})",
        "parameters": f"{facts.params:,}",
        "inputs": ", ".join("x".join(map(str, shape)) for shape in facts.shapes),
        "run on": f"{examples} in {batches}, seed {facts.seed}",
        "metric": f"{facts.metric}, up to {facts.tolerate:g} is tolerated",
        "damage": how,
        "decomposition": facts.form,
    }


def title(key: Key) -> str:
    """Names a change for a heading.

    Example:
        >>> title("decompose"), title(0.75)
        ('decompose', 'narrow to 75 %')
    """
    return key if isinstance(key, str) else f"narrow to {100 * key:g} %"


def remarks(table: Table, rows: Iterable[Row]) -> list[str]:
    """Lists remarks on the inputs and on unchanged layers, with the reasons."""
    return [*table.facts.inputs, *table.facts.notes, *_reasons(rows)]


def figure(table: Table, row: Row, key: Key) -> str:
    """Writes the damage of a change: the metric's own value where a larger one is better.

    That is so for PSNR in dB and SSIM; bars and orders follow the damage.
    """
    damage, value = row.damage.get(key), row.value.get(key)
    shown = value if table.facts.higher_is_better else damage
    return "-" if damage is None or shown is None else f"{shown:.3g}"


def shape(sizes: Iterable[int]) -> str:
    """Writes a shape without the batch, which is the same everywhere.

    Example:
        >>> shape((1, 3, 64, 64))
        '3x64x64'
    """
    return "x".join(map(str, tuple(sizes)[1:])) or "()"


def _reasons(rows: Iterable[Row]) -> list[str]:
    """Lists once each reason why layers cannot be narrowed or decomposed, or only inexactly."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if not row.free:
            found.setdefault(f"not free: {row.why}", []).append(row.layer)
        elif row.approximate:
            found.setdefault(f"narrowing is approximate: {row.approximate}", []).append(row.layer)
        for key, why in row.notes.items():
            if row.free or isinstance(key, str):
                found.setdefault(f"no {title(key)}: {why}", []).append(row.layer)
    return [f"{', '.join(layers)}: {why}" for why, layers in found.items()]
