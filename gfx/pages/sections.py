"""The parts of the page as HTML: facts, stages, pictures, groups, passes."""

import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from gfx.contract import Change, Skip
from gfx.costing import Cost, human
from gfx.markup.cells import badge, bar, cell, fact
from gfx.pages.facts import Facts
from gfx.pages.families import Family
from gfx.pages.layers import StageCost
from gfx.pages.pictures import GAIN, Compared, uri
from gfx.report_text import ROWS
from gfx.reporting import PassReport
from gfx.verify import Check

__all__ = ["group_list", "passes", "pictures", "stage_table", "tiles"]

_SHOWN = 12  # names in a list before it is cut
_WIDEST = 320  # pixels that a picture is shown at


def tiles(before: Cost | None, after: Cost) -> str:
    """Returns the totals, before and after, with how many times less it is."""
    shown = []
    for label, pick in ROWS:
        new, old = pick(after), None if before is None else pick(before)
        unit = "B" if label.endswith("bytes") else ""
        text = human(new, unit) if old is None else f"{human(old, unit)} → {human(new, unit)}"
        extra = ""
        if old:
            times = f"{old / new:.2f}x less" if new and new < old else f"{new / old:.1%} of it"
            extra = f' <span class="times">{escape("the same" if new == old else times)}</span>'
            extra += bar(new / old, "saving")
        shown.append(fact(label, text, extra))
    return "".join(shown)


def stage_table(facts: Facts) -> str:
    """Returns what each stage costs, before and after."""
    heads = ("stage", "layers", "MACs before", "after", "", "parameters before", "after")
    top = "".join(
        f'<th scope="col"{"" if i == 0 else " class=number"}>{escape(name)}</th>'
        for i, name in enumerate(heads)
    )
    most = max((m.exact for stage in facts.stages for m in stage.macs if m is not None), default=0)
    body = "".join(_stage(stage, most or 1) for stage in facts.stages)
    return (
        "<table><caption>MACs in the exact convention. The pale bar is the original, the full one "
        "what is left.</caption>"
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    )


def _stage(stage: StageCost, most: int) -> str:
    old, new = stage.macs
    counts = [n for n in stage.layers if n is not None]
    layers = str(counts[0]) if len(set(counts)) == 1 else " → ".join(map(str, counts))
    cells = f'<th scope="row">{badge(stage.stage)}</th>'
    cells += cell("" if stage.layers[0] is None and not stage.layers[1] else layers, css="number")
    cells += cell("-" if old is None else human(old.exact), css="number")
    cells += cell(human(new.exact), css="number")
    was = "" if old is None else f'<i class="was" style="width:{100 * old.exact / most:.1f}%"></i>'
    both = f'{was}<i class="now" style="width:{100 * new.exact / most:.1f}%"></i>'
    share = "" if not old or not old.exact else f"{new.exact / old.exact:.0%}"
    cells += (
        f'<td class="wide"><span class="both {escape(stage.stage)}" aria-hidden="true">{both}'
        f'</span><span class="note">{share}</span></td>'
    )
    cells += cell("-" if stage.params[0] is None else f"{stage.params[0]:,}", css="number")
    return f"<tr>{cells}{cell(f'{stage.params[1]:,}', css='number')}</tr>"


def pictures(found: Compared | str) -> str:
    """Returns input, original, compressed and residual side by side; or why there are none."""
    if isinstance(found, str):
        return f'<p class="note">{escape(found)}</p>'
    low, high = found.shown.low, found.shown.high
    shown = [] if found.input is None else [_picture("input", found.input)]
    shown += [
        _picture("original output", found.original),
        _picture("compressed output", found.compressed),
        _picture(f"residual x{GAIN}", found.residual),
    ]
    given = "" if found.input is not None else f"The input is no image ({found.noise}). "
    psnr = "the same pixels" if math.isinf(found.psnr) else f"PSNR {found.psnr:.1f} dB"
    note = (
        f"{given}The input is {found.told}. Black is {low:.3g}, white {high:.3g}. The residual is "
        f"{GAIN} times the absolute difference of the two outputs, as shown."
    )
    told = (
        f"<strong>{escape(psnr)}</strong>, mean difference {found.mean:.2f} of 255, largest "
        f"{found.most}."
    )
    return (
        f'<div class="pictures">{"".join(shown)}</div><p>{told}</p>'
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
    """Returns what there is to say of each group, and the list of all."""
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
    return (
        f'<div class="about g{family.number}" id="about-{family.number}">'
        f'<p><i class="swatch"></i><strong>{escape(family.name)}</strong> '
        f"{escape(_widths(family))} channels</p><p>{escape(state)}</p>"
        f'<p class="note">written by {escape(_names(family.writers) or "the input")}</p>'
        f'<p class="note">goes through {escape(_names(family.through) or "nothing else")}</p>'
        f'<p class="note">read by {escape(_names(family.readers) or "the output")}</p></div>'
    )


def _widths(family: Family) -> str:
    same = family.was is None or family.was == family.now
    return f"{family.now}" if same else f"{family.was} → {family.now}"


def passes(found: Sequence[PassReport], verified: bool) -> str:
    """Returns what each pass did."""
    shown = "".join(_pass(number, each, verified) for number, each in enumerate(found, 1))
    return shown or '<p class="note">The recipe has no pass.</p>'


def _pass(number: int, found: PassReport, verified: bool) -> str:
    asked = ", ".join(f"{name}={_short(found.spec.get(name))}" for name in found.asked)
    facts = fact("changed", f"{len(found.changes)}") + fact("left alone", f"{len(found.skips)}")
    if found.before is not None and found.after is not None:
        facts += fact("MACs", _moved(found.before.macs.exact, found.after.macs.exact))
        facts += fact("parameters", _moved(found.before.params, found.after.params))
    if found.seconds:
        facts += fact("took", f"{found.seconds:.1f} s")
    parts = [_changes(found.changes), _skips(found.skips), _details(found.details)]
    heading = f'{number}. {escape(found.name)} <code class="soft">{escape(asked)}</code>'
    return (
        f"<article><h3>{heading}</h3>"
        f"<dl>{facts}</dl>{_checks(found.checks, verified)}{''.join(parts)}</article>"
    )


def _checks(checks: Sequence[Check], verified: bool) -> str:
    if not verified:
        return '<p class="warn">Not verified: nothing was checked (verify=False).</p>'
    return f'<p class="checks">{"".join(map(_check, checks))}</p>'


def _check(check: Check) -> str:
    if check.passed is None:
        text, css = f"{check.name}: not checked, {check.detail}", "open"
    elif check.error is not None and check.tolerance is not None:
        text = f"{check.name}: differ by {check.error:.1e}, {check.tolerance:.0e} allowed"
        css = "good"
    else:
        text, css = check.name, "good"
    mark = "✓" if css == "good" else "○"
    return f'<span class="check {css}" title="{escape(check.detail)}">{mark} {escape(text)}</span>'


def _changes(changes: Sequence[Change]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(c.node)}</th>{cell(c.what)}{cell(_arrow(c))}</tr>'
        for c in changes
    )
    return _folded(f"{len(changes)} changed", f"<table><tbody>{rows}</tbody></table>", changes)


def _arrow(change: Change) -> str:
    if change.before is None and change.after is None:
        return ""
    return f"{_short(change.before)} → {_short(change.after)}"


def _skips(skips: Sequence[Skip]) -> str:
    """Says each reason once."""
    reasons: dict[str, list[str]] = {}
    for skip in skips:
        reasons.setdefault(skip.why, []).append(skip.node)
    items = "".join(
        f"<li>{escape(_names(nodes))}: {escape(why)}</li>" for why, nodes in reasons.items()
    )
    return _folded(f"{len(skips)} left alone", f"<ul>{items}</ul>", skips)


def _details(details: dict[str, Any]) -> str:
    items = "".join(
        f"<div><dt>{escape(key)}</dt><dd class=plain>{escape(_short(value, 600))}</dd></div>"
        for key, value in details.items()
    )
    return _folded("details", f'<dl class="list">{items}</dl>', details)


def _folded(title: str, inside: str, entries: Any) -> str:
    if not entries:
        return ""
    return (
        f'<details><summary>{escape(title)}</summary><div class="scroll" tabindex="0" '
        f'role="region" aria-label="{escape(title)}">{inside}</div></details>'
    )


def _moved(old: int, new: int) -> str:
    return human(new) if old == new else f"{human(old)} → {human(new)}"


def _names(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _short(value: Any, most: int = 80) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= most else f"{text[: most - 3]}..."
