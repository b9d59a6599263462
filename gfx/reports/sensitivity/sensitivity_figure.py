"""Draws a sensitivity table as one picture: bars by layer, and damage against saving."""

from collections.abc import Sequence
from typing import Any

from gfx.ir.stages import layer_path, layers
from gfx.reports.html import matplotlib, plain_text, png, quiet, stage_colour
from gfx.reports.html.plot import OTHER
from gfx.reports.sensitivity.table_text import title
from gfx.sensitivity import Key, Row, Table
from gfx.sensitivity.plans import Plans, PlanStep

__all__ = ["drawing"]

_ROW = 0.2  # inches of height for each layer
_DPI = 120


def drawing(table: Table) -> bytes:
    """Returns the table as a PNG: damage of each change by layer, coloured by stage; the curve.

    Raises: InputError if matplotlib is not installed.

    Example: `Path("findings.png").write_bytes(drawing(gfx.inspect(model)))`.
    """
    figure_kind, canvas_kind = matplotlib()
    rows, keys = _in_order(table), table.facts.keys
    height = max(4.0, 1.9 + _ROW * len(rows))
    figure = figure_kind(figsize=(5.0 + 2.1 * len(keys), height), dpi=_DPI, layout="constrained")
    canvas_kind(figure)
    figure.suptitle(f"gfx inspect: {plain_text(table.facts.model)}", fontsize=12, weight="bold")
    widths = [*([1.0] * len(keys)), 1.9]
    axes = figure.subplots(1, len(keys) + 1, width_ratios=widths, squeeze=False)[0]
    for axis, key in zip(axes[:-1], keys, strict=True):
        _bars(axis, rows, key, _damage(table), first=axis is axes[0])
    _share_scale(axes[:-1])
    _curve(axes[-1], Plans(table).descent(), table)
    return png(figure)


def _in_order(table: Table) -> list[Row]:
    """Lists the rows in the order of the program; in table order if that is unknown."""
    if table.program is None:
        return list(table)
    paths = [layer_path(node) for node in layers(table.program)]
    return sorted(table, key=lambda row: paths.index(row.layer) if row.layer in paths else -1)


def _bars(axis: Any, rows: Sequence[Row], key: Key, metric: str, *, first: bool) -> None:
    """Draws one bar for each layer, from the input of the generator down to its output."""
    places = range(len(rows))
    damages = [row.damage.get(key) for row in rows]
    colours = [stage_colour(row.stage) for row in rows]
    axis.barh(places, [damage or 0 for damage in damages], color=colours, height=0.72)
    for place, damage in zip(places, damages, strict=True):
        if damage is None:
            axis.text(0, place, " n/a", va="center", fontsize=6, color=OTHER)
    axis.set_yticks(places, [plain_text(row.layer) for row in rows] if first else [], fontsize=7)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_title(title(key), fontsize=9)
    axis.set_xlabel(plain_text(metric), fontsize=8)
    quiet(axis, "x")


def _share_scale(axes: Sequence[Any]) -> None:
    """Gives the bars one scale, so that they can be compared across."""
    right = max(axis.get_xlim()[1] for axis in axes) if len(axes) else 1.0
    for axis in axes:
        axis.set_xlim(0, right)


def _curve(axis: Any, steps: Sequence[PlanStep], table: Table) -> None:
    """Draws the curve of the changes, the best first."""
    saved, damage = [0.0, *(s.saved for s in steps)], [0.0, *(s.damage for s in steps)]
    axis.plot(saved, damage, color="#555555", linewidth=1, zorder=1)
    for stage in [stage.stage for stage in table.stages()]:
        of = [step for step in steps if step.stage == stage]
        places = [step.saved for step in of], [step.damage for step in of]
        axis.scatter(*places, color=stage_colour(stage), s=20, zorder=2, label=stage)
    axis.legend(title="stage", fontsize=8, title_fontsize=8, frameon=False, loc="upper left")
    axis.set_title("one change after the other, best first", fontsize=9)
    axis.set_xlabel("share of the MACs saved", fontsize=8)
    axis.set_ylabel(f"{plain_text(_damage(table))}, expected", fontsize=8)
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    quiet(axis, "both")


def _damage(table: Table) -> str:
    """Names the unit of the bars: for PSNR and SSIM, their cost."""
    metric = table.facts.metric
    return f"damage by {metric}" if table.facts.higher_is_better else metric
