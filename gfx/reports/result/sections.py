"""Renders the sections of the page as HTML: totals, stages, pictures, groups."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from gfx.costs import Cost, human
from gfx.pipeline.report import ROWS
from gfx.reports.html.cells import badge, cell, moved_fact
from gfx.reports.result.facts import ResultFacts
from gfx.reports.result.group_colours import Family
from gfx.reports.result.layer_table import StageCost
from gfx.reports.result.pass_steps import names
from gfx.reports.result.picture_rows import GAIN, Compared, uri

__all__ = ["group_list", "pictures", "stage_table", "tiles"]

_TIMES = "\N{MULTIPLICATION SIGN}"
_WIDEST = 320  # pixels, of a picture


def tiles(before: Cost | None, after: Cost) -> str:
    """Returns the totals, before and after, with their ratio."""
    return "".join(
        moved_fact(
            label,
            None if before is None else pick(before),
            pick(after),
            "B" if label.endswith("bytes") else "",
        )
        for label, pick in ROWS
    )


def stage_table(facts: ResultFacts) -> str:
    """Returns the cost of each stage, before and after."""
    heads = ("stage", "layers", "MACs before", "after", "", "parameters before", "after")
    top = "".join(
        f'<th scope="col"{"" if i == 0 else " class=number"}>{escape(name)}</th>'
        for i, name in enumerate(heads)
    )
    most = max((m.exact for stage in facts.stages for m in stage.macs if m is not None), default=0)
    body = "".join(_stage(stage, most or 1) for stage in facts.stages)
    return (
        '<table class="stacks"><caption>MACs in the exact convention. The pale bar is the '
        "original, the full one what is left.</caption>"
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    )


def _stage(stage: StageCost, most: int) -> str:
    old, new = stage.macs
    counts = [n for n in stage.layers if n is not None]
    layers = str(counts[0]) if len(set(counts)) == 1 else " → ".join(map(str, counts))
    cells = f'<th scope="row">{badge(stage.stage)}</th>'
    cells += cell(
        "" if stage.layers[0] is None and not stage.layers[1] else layers,
        css="number",
        label="layers",
    )
    cells += cell("-" if old is None else human(old.exact), css="number", label="MACs before")
    cells += cell(human(new.exact), css="number", label="MACs after")
    was = "" if old is None else f'<i class="was" style="width:{100 * old.exact / most:.1f}%"></i>'
    both = f'{was}<i class="now" style="width:{100 * new.exact / most:.1f}%"></i>'
    share = "" if not old or not old.exact else f"{new.exact / old.exact:.0%}"
    cells += (
        f'<td class="wide"><span class="both {escape(stage.stage)}" aria-hidden="true">{both}'
        f'</span><span class="note">{share}</span></td>'
    )
    before = "-" if stage.params[0] is None else f"{stage.params[0]:,}"
    cells += cell(before, css="number", label="parameters before")
    cells += cell(f"{stage.params[1]:,}", css="number", label="parameters after")
    return f"<tr>{cells}</tr>"


def pictures(found: Compared | str) -> str:
    """Returns input, original, compressed and residual side by side; or why there are none."""
    if isinstance(found, str):
        return f'<p class="note">{escape(found)}</p>'
    low, high = found.shown.low, found.shown.high
    shown = [] if found.input is None else [_picture("input", found.input)]
    shown += [
        _picture("original output", found.original),
        _picture("compressed output", found.compressed),
        _picture(f"residual {_TIMES}{GAIN}", found.residual),
    ]
    given = "" if found.input is not None else f"The input is no image ({found.noise}). "
    psnr = "the same pixels" if math.isinf(found.psnr) else f"PSNR {found.psnr:.1f} dB"
    note = (
        f"{given}The input is {found.origin}. Black is {low:.3g}, white {high:.3g}. "
        f"The residual is {GAIN} times the absolute difference of the two outputs, as shown."
    )
    summary = (
        f"<strong>{escape(psnr)}</strong>, mean difference {found.mean:.2f} of 255, largest "
        f"{found.most}."
    )
    return (
        f'<div class="pictures">{"".join(shown)}</div><p>{summary}</p>'
        f'<p class="note">{escape(note)}</p>'
    )


def _picture(name: str, pixels: Any) -> str:
    height, width = pixels.shape[:2]
    wide = max(min(_WIDEST, 4 * width), 96)  # small ones are enlarged
    return (
        f'<figure><img src="{uri(pixels)}" width="{width}" height="{height}" '
        f'style="width:{wide}px" alt="{escape(name)}"><figcaption>{escape(name)}, {width}x{height}'
        "</figcaption></figure>"
    )


def group_list(families: Sequence[Family]) -> str:
    """Returns a text about each group, and the list of all."""
    about = "".join(_about(family) for family in families)
    listed = "".join(
        f'<li class="row g{f.number}" tabindex="0"><i class="swatch"></i>{escape(f.name)}'
        f'<span class="soft">{escape(_widths(f))}</span></li>'
        for f in families
    )
    hint = '<p class="soft hint">Nothing is pointed at: these are all groups.</p>'
    return f'<div class="abouts">{hint}{about}</div><ul class="groups">{listed}</ul>'


def _about(family: Family) -> str:
    state = f"Stays as it is: {family.pinned}." if family.pinned else "Its channels may be removed."
    if not family.pinned and family.now == 1:
        state = "A single channel is left."
    if family.approximate:
        state += f" Removing them is approximate: {family.approximate}."
    places = {
        "written by": names(family.writers) or "the input",
        "goes through": names(family.through),
        "read by": names(family.readers) or "the output",
    }
    listed = "".join(
        f'<p class="note">{escape(f"{what} {where}")}</p>'
        for what, where in places.items()
        if where
    )
    return (
        f'<div class="about g{family.number}" id="about-{family.number}">'
        f'<p><i class="swatch"></i><strong>{escape(family.name)}</strong> '
        f"{escape(_widths(family))} channels</p><p>{escape(state)}</p>"
        f"{listed}</div>"
    )


def _widths(family: Family) -> str:
    same = family.was is None or family.was == family.now
    return f"{family.now}" if same else f"{family.was} → {family.now}"
