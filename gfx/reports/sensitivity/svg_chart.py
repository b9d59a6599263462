"""Draws damage against saving as an SVG for a page."""

import math
from collections.abc import Sequence
from html import escape

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
_STEPS = 5


def chart(steps: Sequence[PlanStep], facts: TableFacts) -> str:
    """Returns the curve of the changes, best first, as SVG with a caption.

    Example: `chart(Plans(table).descent(), table.facts)` → `"<svg ...>...</svg><figcaption>..."`.
    """
    if not steps:
        return "<figcaption>No change that was tried saves anything.</figcaption>"
    right, top = steps[-1].saved, max(step.damage for step in steps) or 1.0
    places = [(_x(step.saved / right), _y(step.damage / top)) for step in steps]
    run = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(_x(0), _y(0)), *places])
    dots = "".join(
        f'<circle class="{escape(step.stage)}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>'
        f"{escape(_label(step))}</title></circle>"
        for step, (x, y) in zip(steps, places, strict=True)
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Damage against saving">'
        f'{_grid(right, top, facts)}<polyline class="run" points="{run}"/>{dots}</svg>'
        f"<figcaption>{escape(CAPTION)}</figcaption>"
    )


def _label(step: PlanStep) -> str:
    return (
        f"{step.name}: {title(step.key)}; with all before it {step.saved:.1%} of the MACs are saved"
    )


def _grid(right: float, top: float, facts: TableFacts) -> str:
    """Returns the axes: shares of the MACs below, summed damages at the left."""
    parts = []
    for value in _ticks(right):
        x = _x(value / right)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_y(0)}" y2="{_y(1)}"/>')
        parts.append(f'<text x="{x:.1f}" y="{_y(0) + 16}" text-anchor="middle">{value:.3g}</text>')
    for value in _ticks(top):
        y = _y(value / top)
        parts.append(f'<line class="grid" x1="{_x(0)}" x2="{_x(1)}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    middle = (_x(0) + _x(1)) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">share of the MACs saved</text>'
    )
    parts.append(
        f'<text x="{-(_y(0) + _y(1)) / 2}" y="12" text-anchor="middle" '
        f'transform="rotate(-90)">{escape(facts.metric)}, expected</text>'
    )
    return "".join(parts)


def _ticks(top: float) -> list[float]:
    """Returns round numbers from 0 to top, some five of them."""
    size = 10.0 ** math.floor(math.log10(top / _STEPS))
    step = next(size * k for k in (1, 2, 5, 10) if size * k * _STEPS >= top * 0.999)
    return [i * step for i in range(math.floor(top / step) + 1)]


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)
