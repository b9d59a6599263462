"""Draws a front as SVG: cost across, score up, bounds as lines; what was searched is behind it."""

import math
from html import escape

from gfx.costs import human
from gfx.reports.html.svg_axes import ChartAxis, bottom_axis, left_axis
from gfx.train.search.front import Front, FrontNet

__all__ = ["NAMES", "UNITS", "front_chart"]

_WIDTH, _HEIGHT = 720, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 16, 46
_MOST = 2_000  # nets that are drawn behind the front
NAMES = {
    "exact": "MACs",
    "output": "MACs (output)",
    "output_norm": "MACs (output+norm)",
    "params": "parameters",
    "param_bytes": "bytes of parameters",
    "peak_activation_bytes": "bytes of activations",
}
UNITS = {name: "B" if name.endswith("bytes") else "" for name in NAMES}


def front_chart(front: Front) -> str:
    """Returns the picture of a front; each net is a button that its number names.

    Example: `front_chart(read_front("runs/a"))` → `"<svg ...>...</svg>"`.
    """
    measure = front.measure
    behind = [net for net in front.searched if math.isfinite(net.value)]
    behind = behind[:: max(1, math.ceil(len(behind) / _MOST))]
    nets = [net for net in front.nets if math.isfinite(net.value)]
    if not nets:
        return '<p class="note">No net of the front has a finite score.</p>'
    costs = [net.prices[measure] for net in behind] + [net.prices[measure] for net in nets]
    values = [v for net in nets for v in (net.value, net.low, net.high) if math.isfinite(v)]
    values += _inner([net.value for net in behind])
    across = ChartAxis.over(map(float, costs), _LEFT, _WIDTH - _RIGHT)
    up = ChartAxis.over(values, _HEIGHT - _BOTTOM, _TOP)
    unit = UNITS[measure]
    axes = bottom_axis(across, up, _HEIGHT, NAMES[measure], lambda v: human(int(v), unit))
    axes += left_axis(across, up, front.score)
    dots = "".join(
        f'<circle class="searched" cx="{across.place(net.prices[measure]):.1f}" '
        f'cy="{up.place(net.value):.1f}" r="2"/>'
        for net in behind
        if up.low <= net.value <= up.high
    )
    points = "".join(
        _point(front, at, net, across, up)
        for at, net in enumerate(front.nets)
        if math.isfinite(net.value)
    )
    label = escape(f"{front.score} against {NAMES[measure]}: {front.sentence}")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="group" aria-label="{label}">'
        f"{axes}{dots}{points}</svg>"
    )


def _point(front: Front, at: int, net: FrontNet, across: ChartAxis, up: ChartAxis) -> str:
    """Returns a net with its bounds, as a link to what is known of it."""
    x, y = across.place(net.prices[front.measure]), up.place(net.value)
    low, high = (up.place(v) if math.isfinite(v) else y for v in (net.low, net.high))
    cost = human(net.prices[front.measure], UNITS[front.measure])
    said = f"net {at + 1}: {cost} {NAMES[front.measure]}, {front.score} {net.value:.4g}, "
    said += net.verdict
    css = "net told" if net.better and "noise" not in net.verdict else "net"
    return (
        f'<a class="{css}" href="#net-{at}" data-net="{at}" aria-label="{escape(said)}">'
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
        f'<circle class="reach" cx="{x:.1f}" cy="{y:.1f}" r="12"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/><title>{escape(said)}</title></a>'
    )


def _inner(values: list[float]) -> list[float]:
    """Returns the values without the worst tenth on either side: one bad net squeezes no front."""
    found = sorted(values)
    cut = len(found) // 10
    return found[cut : len(found) - cut]
