"""Writes a sensitivity table as one HTML page: sortable, without external resources.

1. All text is escaped; the page's own policy forbids every request.
2. Every bar has a number beside it, and every colour a word.
3. The page is complete without its script, which only sorts and filters.
4. Where the window is too narrow for all columns, each layer is a block, its figures named.
"""

from collections.abc import Iterable
from html import escape
from importlib.resources import files
from math import prod
from string import Template

from gfx.costs import human
from gfx.reports.html import page_head
from gfx.reports.html.cells import UP, WORDS, badge, bar, cell, fact, head, row_head
from gfx.reports.sensitivity.svg_chart import chart
from gfx.reports.sensitivity.table_text import described, figure, remarks, shape, title
from gfx.sensitivity import Key, Row, Stage, Table
from gfx.sensitivity.plans import Plans

__all__ = ["page"]

_FIRST = (("layer", WORDS), ("worth doing", UP), ("stage", WORDS))
# the name of a column, and its sort key
_LAST = (
    ("MACs", ""),
    ("share", ""),
    ("parameters", ""),
    ("kind", WORDS),
    ("in → out", ""),
    ("channel group", WORDS),
)
_NUMBERS = ("MACs", "share", "parameters")


def page(table: Table) -> str:
    """Returns the page as text.

    Raises: InputError if the table was not made by gfx.inspect.

    Example: `Path("findings.html").write_text(page(gfx.inspect(model)), "utf-8")`.
    """
    plans = Plans(table)
    facts = "".join(fact(name, text) for name, text in described(table).items())
    said = "".join(f'<p class="note">{escape(text)}</p>' for text in remarks(table, table))
    template = Template(
        files("gfx.reports.sensitivity").joinpath("sensitivity.html").read_text("utf-8")
    )
    return template.substitute(
        head=page_head(
            f"gfx inspect: {table.facts.model}",
            files("gfx.reports.sensitivity").joinpath("sensitivity.css").read_text("utf-8"),
            _labels(table),
            scripts=True,
        ),
        heading=escape(table.facts.model),
        subtitle=escape(_subtitle(table)),
        facts=facts,
        notes=said,
        stages=_stage_table(table, plans),
        curve=chart(plans.descent(), table.facts),
        options="".join(f"<option>{escape(stage.stage)}</option>" for stage in table.stages()),
        count=f"{len(table)} of {len(table)} layers",
        layers=_layer_table(table),
    )


def _subtitle(table: Table) -> str:
    advised = sum(row.choice is not None for row in table)
    within = f"within a damage of {table.facts.tolerate:g}"
    if not advised:
        return f"{len(table)} layers; nothing can be done to any of them {within}"
    return f"{len(table)} layers; {advised} of them are worth changing {within}"


def _labels(table: Table) -> str:
    """Returns the style that names the figures of a layer in a narrow window (rule 4)."""
    of_keys = [f"{title(key)}, {name}" for key in table.facts.keys for name in ("damage", "saved")]
    names = [name for name, _ in _FIRST] + of_keys + [name for name, _ in _LAST]
    rules = [
        f'#layers tbody td:nth-child({at}) {{ --named: "{name}"; }}'
        for at, name in enumerate(names, 1)
    ]
    rules += [
        f'#layers thead tr + tr th:nth-child({at}) {{ --named: "{name.partition(",")[0]}: "; }}'
        for at, name in enumerate(of_keys, 1)
    ]
    return "\n".join(rules)


def _layer_table(table: Table) -> str:
    """Returns one row for each layer, in table order."""
    keys = table.facts.keys
    first = "".join(head(name, i, sorts=sorts, rows=2) for i, (name, sorts) in enumerate(_FIRST))
    over = "".join(f'<th scope="colgroup" colspan="2">{escape(title(key))}</th>' for key in keys)
    under, at = "", len(_FIRST)
    for _ in keys:
        under += head("damage", at, sorts=UP, css="number edge")
        under += head("saved", at + 1, css="number")
        at += 2
    last = ""
    for i, (name, sorts) in enumerate(_LAST, at):
        css = "number" if name in _NUMBERS else ""
        last += head(name, i, sorts=sorts, rows=2, css=f"{css} edge".strip() if i == at else css)
    body = "".join(_layer(table, row, rank) for rank, row in enumerate(table))
    caption = (
        f"Damage: {table.facts.metric}, of each change alone. Saved: MACs of the whole model. "
        "Narrowing is of the whole channel group. A heading sorts, either way."
    )
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{first}{over}{last}</tr>"
        f"<tr>{under}</tr></thead><tbody>{body}</tbody></table>"
    )


def _layer(table: Table, row: Row, rank: int) -> str:
    cells = row_head(row.layer)
    cells += cell(row.recommend, rank, css="leave" if row.choice is None else "advice")
    cells += cell("", row.stage, extra=badge(row.stage))
    damage, saved = (
        _most(d for r in table for d in r.damage.values()),
        _most(s for r in table for s in r.saved.values()),
    )
    for key in table.facts.keys:
        cells += _measured(table, row, key, damage, saved)
    cells += cell(human(row.macs), row.macs, css="number edge")
    cells += cell(f"{row.share:.1%}", row.share, css="number", extra=bar(row.share, "share"))
    cells += cell(f"{row.params:,}", row.params, css="number")
    cells += cell(row.kind, row.kind)
    cells += cell(f"{shape(row.inputs)} → {shape(row.outputs)}", prod(row.outputs))
    state = f'<div class="note">{escape(_state(row))}</div>'
    cells += cell(row.group or "", row.group, css="why", extra=state)
    return f'<tr data-stage="{escape(row.stage)}">{cells}</tr>'


def _state(row: Row) -> str:
    """Says whether the channels of a row's group may be removed."""
    if not row.free:
        return row.why
    return f"free, {row.channels} channels{'; approximate' if row.approximate else ''}"


def _measured(table: Table, row: Row, key: Key, most: float, most_saved: float) -> str:
    """Returns the two cells of one change (rule 2); the largest of all fill their bars."""
    damage, saved = row.damage.get(key), row.saved.get(key)
    if damage is None:
        why = row.notes.get(key, "")
        return cell("-", css="number edge absent", hint=why) + cell("-", css="number absent")
    cells = cell(figure(table, row, key), damage, css="number edge", extra=bar(damage / most))
    shown = "-" if saved is None else human(saved)
    filled = bar((saved or 0) / most_saved, "saving")
    return cells + cell(shown, saved, css="number", extra=filled)


def _most(values: Iterable[float | None]) -> float:
    """Returns the value of a full bar."""
    return max((value for value in values if value is not None), default=0) or 1.0


def _stage_table(table: Table, plans: Plans) -> str:
    """Returns one row for each stage, in the order of the program."""
    keys, stages = table.facts.keys, table.stages()
    heads = '<th scope="col">stage</th>'
    for name in ("layers", "MACs", "share", *(title(key).removeprefix("narrow ") for key in keys)):
        heads += f'<th scope="col" class="number">{escape(name)}</th>'
    most = _most(d for stage in stages for d in stage.damage.values())
    body = "".join(_stage(stage, plans, most) for stage in stages)
    caption = (
        "Mean damage of one layer's change, and what the changes of all its layers save together."
    )
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _stage(stage: Stage, plans: Plans, most: float) -> str:
    cells = f'<th scope="row">{badge(stage.stage)}</th>'
    for text in (str(stage.layers), human(stage.macs), f"{stage.share:.1%}"):
        cells += cell(text, css="number")
    rows = [row for row in plans.table if row.stage == stage.stage]
    for key, damage in stage.damage.items():
        if damage is None:
            cells += cell("-", css="number absent")
            continue
        saves = f'<div class="note">saves {escape(human(plans.together(rows, key)))}</div>'
        cells += cell(f"{damage:.3g}", css="number", extra=bar(damage / most) + saves)
    return f"<tr>{cells}</tr>"
