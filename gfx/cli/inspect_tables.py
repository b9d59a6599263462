"""Prints the table of `gfx inspect`, and writes it as CSV."""

import csv
import io
from typing import TYPE_CHECKING, Any

from gfx.cli.screen import columns_of_screen, print_table, print_text

if TYPE_CHECKING:
    from gfx.sensitivity import Key, Row, Table

__all__ = ["print_findings", "to_csv"]

_WIDE = 150  # width of text from which every figure has its own column


def print_findings(table: "Table") -> None:
    """Prints the facts of a table, a row for each layer, one for each stage, and remarks."""
    from gfx.reports.sensitivity.table_text import described, remarks

    for name, text in described(table).items():
        print_text(f"{name:<14}{text}")
    _print_layers(table)
    _print_stages(table)
    for text in remarks(table, table):
        print_text(text)


def _print_layers(table: "Table") -> None:
    """Prints several lines for each layer: below a damage is the saving of the change."""
    from gfx.reports.sensitivity.table_text import figure

    wide = columns_of_screen() >= _WIDE
    shown = []
    for row in table:
        cells = _wide(row) if wide else _narrow(row)
        for key in table.facts.keys:
            cells[_heading(key)] = _change(figure(table, row, key), row.saved.get(key))
        shown.append(cells)
    print_table(
        list(shown[0]) if shown else (),
        [list(cells.values()) for cells in shown],
        f"{len(shown)} layers, what is worth doing first; damage, and below it the MACs saved",
    )


def _wide(row: "Row") -> dict[str, str]:
    from gfx.reports.sensitivity.table_text import shape

    return {
        "layer": f"{row.layer}\n{row.kind}",
        "worth doing": row.recommend,
        "stage": row.stage,
        "in → out": f"{shape(row.inputs)} →\n{shape(row.outputs)}",
        "group": f"{row.group or '-'}\n{_state(row)}",
        "#params": _short(row.params),
        "#MACs": f"{_short(row.macs)}\n{row.share:.1%}",
    }


def _narrow(row: "Row") -> dict[str, str]:
    from gfx.reports.sensitivity.table_text import shape

    what = f"{row.stage}, {row.kind}, {_short(row.params)}"
    return {
        "layer": f"{row.layer}\n{what}\n{shape(row.inputs)} → {shape(row.outputs)}",
        "worth doing": f"{row.recommend}\n{row.group or '-'}\n{_state(row)}",
        "#MACs": f"{_short(row.macs)}\n{row.share:.1%}",
    }


def _state(row: "Row") -> str:
    return f"{row.channels}, {'free' if row.free else 'not free'}" if row.channels else "not free"


def _print_stages(table: "Table") -> None:
    from gfx.sensitivity.plans import Plans

    plans = Plans(table)
    columns = ("stage", "#layers", "#MACs", "#share", "#params", *map(_heading, table.facts.keys))
    shown = []
    for stage in table.stages():
        rows = [row for row in table if row.stage == stage.stage]
        changes = [
            _change("-" if damage is None else f"{damage:.3g}", plans.together(rows, key))
            for key, damage in stage.damage.items()
        ]
        macs, params = _short(stage.macs), _short(stage.params)
        share = f"{stage.share:.1%}"
        shown.append((stage.stage, str(stage.layers), macs, share, params, *changes))
    print_table(
        columns,
        shown,
        "stages: mean damage of one layer's change, and what all of them save together",
    )


def _heading(key: "Key") -> str:
    from gfx.reports.sensitivity.table_text import title

    return f"#{title(key).removeprefix('narrow ')}"


def _change(damage: str, saved: int | None) -> str:
    if damage == "-" or saved is None:
        return damage
    return f"{damage}\n{'+' if saved < 0 else '-'}{_short(abs(saved))}"


def _short(count: int) -> str:
    """Writes a number with three digits, such as 966M."""
    from gfx.costs import human

    figure, _, unit = human(count).partition(" ")
    return f"{float(figure):.3g}{unit}" if unit else figure


def to_csv(table: "Table") -> str:
    """Writes the rows as CSV, in the order of the program; missing values are empty.

    Units: MACs, and damages in those of the metric; shapes as 1x3x8x8.
    """
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    flat = [_flat(row) for row in table.to_dicts()]
    names = dict.fromkeys(name for row in flat for name in row)
    writer.writerow(names)
    writer.writerows([row.get(name, "") for name in names] for row in flat)
    return written.getvalue()


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Spreads the mappings of a row over several columns, such as damage:decompose."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= {f"{name}:{key}": "" if v is None else v for key, v in value.items()}
        elif isinstance(value, list | tuple):
            numbers = bool(value) and all(isinstance(v, int) for v in value)
            found[name] = ("x" if numbers else "; ").join(map(str, value))
        else:
            found[name] = "" if value is None else value
    return found
