"""Draws damage against saving as an SVG for a page."""

from collections.abc import Sequence
from html import escape

from gfx.reports.html.svg_axes import ChartAxis, bottom_axis, left_axis
from gfx.reports.sensitivity.table_text import title
from gfx.sensitivity import TableFacts
from gfx.sensitivity.plans import PlanStep

__all__ = ["CAPTION", "chart"]

CAPTION = (
    "One change after the other, the best first: the least damage for what it saves after those "
    "before it. Savings are exact, damages are taken to add up."
)

_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 44


def chart(steps: Sequence[PlanStep], facts: TableFacts) -> str:
    """Returns the curve of the changes, best first, as SVG with a caption.

    Example: `chart(Plans(table).descent(), table.facts)` → `"<svg ...>...</svg><figcaption>..."`.
    """
    if not steps:
        return "<figcaption>No change that was tried saves anything.</figcaption>"
    top = max(step.damage for step in steps) or 1.0
    across = ChartAxis(0, steps[-1].saved, _LEFT, _WIDTH - _RIGHT)
    up = ChartAxis(0, top, _HEIGHT - _BOTTOM, _TOP)
    places = [(across.place(step.saved), up.place(step.damage)) for step in steps]
    run = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(across.start, up.start), *places])
    dots = "".join(
        f'<circle class="{escape(step.stage)}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>'
        f"{escape(_label(step))}</title></circle>"
        for step, (x, y) in zip(steps, places, strict=True)
    )
    axes = bottom_axis(across, up, _HEIGHT, "share of the MACs saved")
    axes += left_axis(across, up, f"{facts.metric}, expected")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Damage against saving">'
        f'{axes}<polyline class="run" points="{run}"/>{dots}</svg>'
        f"<figcaption>{escape(CAPTION)}</figcaption>"
    )


def _label(step: PlanStep) -> str:
    return (
        f"{step.name}: {title(step.key)}; with all before it {step.saved:.1%} of the MACs are saved"
    )
