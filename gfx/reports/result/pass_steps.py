"""Renders what each pass did as HTML: changes, refusals, checks, details."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from gfx.contract import Change, Skip
from gfx.costs import human
from gfx.pipeline.pass_report import PassReport
from gfx.pipeline.report import said
from gfx.pipeline.verify import Check
from gfx.reports.html.cells import cell, fact

__all__ = ["names", "passes"]

_SHOWN = 12  # names in a list before it is cut


def passes(found: Sequence[PassReport], verified: bool) -> str:
    """Returns the section of all passes."""
    shown = "".join(_pass(number, each, verified) for number, each in enumerate(found, 1))
    return shown or '<p class="note">The recipe has no pass.</p>'


def _pass(number: int, found: PassReport, verified: bool) -> str:
    asked = ", ".join(f"{name}={said(found.spec.get(name))}" for name in found.asked)
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
    return f"{said(change.before)} → {said(change.after)}"


def _skips(skips: Sequence[Skip]) -> str:
    """Writes each reason once."""
    reasons: dict[str, list[str]] = {}
    for skip in skips:
        reasons.setdefault(skip.why, []).append(skip.node)
    items = "".join(
        f"<li>{escape(names(nodes))}: {escape(why)}</li>" for why, nodes in reasons.items()
    )
    return _folded(f"{len(skips)} left alone", f"<ul>{items}</ul>", skips)


def _details(details: dict[str, Any]) -> str:
    items = "".join(
        f"<div><dt>{escape(key)}</dt><dd class=plain>{escape(said(value))}</dd></div>"
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


def names(found: Iterable[str]) -> str:
    """Lists names, the first dozen.

    Example:
        >>> names(["a", "b"])
        'a, b'
    """
    listed = list(found)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
