"""What a table says in words: how it came about, and the figures of its cells."""

from collections.abc import Iterable

from gfx.costing import human
from gfx.sensitivity.rows import Key, Row
from gfx.sensitivity.table import Table

__all__ = ["described", "figure", "remarks", "shape", "title"]


def described(table: Table) -> dict[str, str]:
    """Says how a table came about, by heading.

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
    """Names a change as a heading does.

    Example:
        >>> title("decompose"), title(0.75)
        ('decompose', 'narrow to 75 %')
    """
    return key if isinstance(key, str) else f"narrow to {100 * key:g} %"


def remarks(table: Table, rows: Iterable[Row]) -> list[str]:
    """Lists what there is to say besides: the inputs, the layers left whole, and why not."""
    return [*table.facts.inputs, *table.facts.notes, *_reasons(rows)]


def figure(table: Table, row: Row, key: Key) -> str:
    """Writes the damage of a change: the metric's own value where more of it is better.

    Such are PSNR in dB and SSIM; bars and orders follow the damage.
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
    """Says once each why layers cannot be narrowed or decomposed, and where it is inexact."""
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
