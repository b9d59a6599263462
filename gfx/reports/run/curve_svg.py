"""Draws the curves of a run as SVG: axes, a legend in words, where each stage begins."""

from collections.abc import Sequence
from html import escape

from gfx.reports.html.svg_axes import ChartAxis, bottom_axis, left_axis
from gfx.reports.run.curves import RunChart, RunCurve

__all__ = ["curve_section"]

_WIDTH, _HEIGHT = 440, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 12, 20, 40
_MOST = 40  # charts of a page
_NAME = 14  # characters of the name of a stage
_COLOURS = 4  # classes k0, k1, ... in run.css; further curves have the last


def curve_section(charts: Sequence[RunChart]) -> str:
    """Returns all charts; says why there are none, and how many are left out."""
    if not charts:
        return '<p class="note">Nothing is logged yet.</p>'
    drawn = "".join(_figure(chart) for chart in charts[:_MOST])
    left = len(charts) - _MOST
    more = f'<p class="note">{left} more are in log.jsonl and metrics.csv.</p>' if left > 0 else ""
    return f'<div class="curves">{drawn}</div>{more}'


def _figure(chart: RunChart) -> str:
    said = "; ".join(map(_told, chart.curves))
    if chart.gaps:
        said += f"; {chart.gaps:,} values are not finite, and are left out"
    return (
        f'<figure class="curve"><h3>{escape(chart.title)}</h3>{_drawn(chart, said)}'
        f"<figcaption>{_legend(chart)}<p>{escape(said)}</p></figcaption></figure>"
    )


def _told(curve: RunCurve) -> str:
    """Says how a curve begins and ends, for those who do not see it."""
    line = curve.means or curve.pieces
    if not line:
        return f"{curve.name}: no finite value"
    first, last = line[0][0][1], line[-1][-1][1]
    if sum(map(len, line)) == 1:
        return f"{curve.name} {first:.4g}"
    return f"{curve.name} {first:.4g} → {last:.4g}"


def _legend(chart: RunChart) -> str:
    entries = []
    for number, curve in enumerate(chart.curves):
        colour = f"k{min(number, _COLOURS - 1)}"
        if curve.dots:
            entries.append((f"{colour} dot", curve.name))
            continue
        entries.append((f"{colour} line", curve.name + (", as logged" if curve.means else "")))
        if curve.means:
            entries.append((f"{colour} line mean", "mean"))
    keys = "".join(
        f'<span><i class="mark {css}" aria-hidden="true"></i>{escape(name)}</span>'
        for css, name in entries
    )
    scale = '<span class="soft">logarithmic</span>' if chart.log else ""
    return f'<p class="legend">{keys}{scale}</p>'


def _drawn(chart: RunChart, said: str) -> str:
    points = [point for curve in chart.curves for piece in curve.pieces for point in piece]
    steps = [at for at, _ in points] + [at for at, _ in chart.stages]
    across = ChartAxis.over(steps or [0.0, 1.0], _LEFT, _WIDTH - _RIGHT)
    up = ChartAxis.over([value for _, value in points], _HEIGHT - _BOTTOM, _TOP, log=chart.log)
    axes = bottom_axis(across, up, _HEIGHT, "step", _steps) + left_axis(across, up)
    stages = "".join(_stage(across, at, name) for at, name in chart.stages)
    lines = "".join(
        _line(curve, f"k{min(number, _COLOURS - 1)}", across, up)
        for number, curve in enumerate(chart.curves)
    )
    label = escape(f"{chart.title}: {said}")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f"{axes}{stages}{lines}</svg>"
    )


def _steps(value: float) -> str:
    return f"{value:,.0f}" if abs(value - round(value)) < 1e-6 else ""


def _stage(across: ChartAxis, at: float, name: str) -> str:
    """Marks where a stage begins."""
    x = across.place(at)
    short = name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
    near_end = x > _WIDTH - 90
    anchor, moved = ("end", -4) if near_end else ("start", 4)
    return (
        f'<line class="begin" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 10}" y2="{_HEIGHT - _BOTTOM}"/>'
        f'<text class="begins" x="{x + moved:.1f}" y="{_TOP - 6}" text-anchor="{anchor}">'
        f"{escape(short)}<title>{escape(name)}</title></text>"
    )


def _line(curve: RunCurve, colour: str, across: ChartAxis, up: ChartAxis) -> str:
    def path(pieces: Sequence[Sequence[tuple[float, float]]], css: str) -> str:
        moves = [
            "M" + "L".join(f"{across.place(at):.1f} {up.place(value):.1f}" for at, value in piece)
            for piece in pieces
            if len(piece) > 1
        ]
        return f'<path class="{colour} {css}" d="{"".join(moves)}"/>' if moves else ""

    drawn = path(curve.pieces, "thin" if curve.means else "thick") + path(curve.means, "thick")
    for piece in curve.pieces:
        for at, value in piece if curve.dots or len(piece) == 1 else ():
            drawn += (
                f'<circle class="{colour}" cx="{across.place(at):.1f}" cy="{up.place(value):.1f}" '
                f'r="{4 if curve.name == "kept" else 2.5}"><title>{escape(curve.name)} {value:.4g} '
                f"after {at:,.0f} steps</title></circle>"
            )
    return drawn
