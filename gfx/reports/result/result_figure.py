"""Draws the key chart of a report: cost by stage before and after, widths layer by layer."""

from collections.abc import Sequence
from typing import Any

from torch import fx, nn

from gfx.costs import human
from gfx.pipeline.report import report
from gfx.reports.html import matplotlib, plain_text, png, quiet, stage_colour
from gfx.reports.html.plot import OTHER
from gfx.reports.result.facts import ResultFacts, facts_of, with_original
from gfx.reports.result.layer_table import Pair

__all__ = ["drawing"]

_ROW = 0.19  # inches of height for each layer
_DPI = 120


def drawing(
    module: fx.GraphModule, *, original: nn.Module | None = None, inputs: object = None
) -> bytes:
    """Returns the chart of a module that gfx made, as a PNG.

    At the left MACs by stage, before and after; at the right the channels of each layer. The pale
    bars are the original, where it is known.

    Raises: GfxError if the module has no report; InputError if matplotlib is not installed.

    Example: `Path("small.png").write_bytes(drawing(gfx.load("small.gfx")))`.
    """
    figure_kind, canvas_kind = matplotlib()
    stored = report(module)
    if original is not None:
        stored = with_original(stored, original, inputs)
    facts = facts_of(module, stored)
    height = max(3.8, 1.5 + _ROW * len(facts.pairs))
    figure = figure_kind(figsize=(11.0, height), dpi=_DPI, layout="constrained")
    canvas_kind(figure)
    figure.suptitle(_heading(facts), fontsize=12, weight="bold")
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.35))
    _stages(left, facts)
    _widths(right, facts.pairs)
    return png(figure)


def _heading(facts: ResultFacts) -> str:
    now, before = facts.cost.macs.exact, facts.report.before
    name = plain_text(facts.report.source)
    if before is None or not before.macs.exact:
        return f"{name}: {human(now)} MACs"
    return f"{name}: {human(before.macs.exact)} → {human(now)} MACs"


def _stages(axis: Any, facts: ResultFacts) -> None:
    """Draws two bars for each stage, from stem to head."""
    shown = [s for s in facts.stages if any(m is not None and m.exact for m in s.macs)]
    most = max((m.exact for s in shown for m in s.macs if m is not None), default=1)
    for place, stage in enumerate(shown):
        old, new = stage.macs
        colour = stage_colour(stage.stage)
        if old is not None:
            axis.barh(place - 0.2, old.exact / most, color=colour, height=0.36, alpha=0.3)
            axis.text(
                old.exact / most, place - 0.2, f" {human(old.exact)}", va="center", fontsize=7
            )
        axis.barh(place + 0.2, new.exact / most, color=colour, height=0.36)
        axis.text(new.exact / most, place + 0.2, f" {human(new.exact)}", va="center", fontsize=7)
    axis.set_yticks(range(len(shown)), [stage.stage for stage in shown], fontsize=8)
    axis.set_ylim(max(len(shown), 1) - 0.4, -0.6)
    axis.set_xlim(0, 1.22)
    axis.set_xticks([])
    axis.set_title("MACs by stage: before (pale) and after", fontsize=9)
    quiet(axis, "x")


def _widths(axis: Any, pairs: Sequence[Pair]) -> None:
    """Draws one bar for each layer, from the input down to the output."""
    places = range(len(pairs))
    colours = [stage_colour(pair.stage) for pair in pairs]
    was = [pair.was.outputs if pair.was else 0 for pair in pairs]
    now = [pair.now.outputs for pair in pairs]
    axis.barh(places, was, color="none", edgecolor=OTHER, linewidth=0.6, height=0.76)
    axis.barh(places, now, color=colours, height=0.5)
    for place, old, new in zip(places, was, now, strict=True):
        text = f" {new}" if old in (0, new) else f" {old} → {new}"
        axis.text(max(old, new), place, text, va="center", fontsize=6)
    axis.set_yticks(places, [plain_text(pair.now.path) for pair in pairs], fontsize=6.5)
    axis.set_ylim(max(len(pairs), 1) - 0.4, -0.6)
    axis.set_xlim(0, 1.2 * max([1, *was, *now]))
    axis.set_title("channels by layer: outlined before, filled after", fontsize=9)
    quiet(axis, "x")
