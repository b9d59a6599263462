"""Measures latency by node and sensitivity by layer of a compressed program, for its page."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from torch import fx, nn

from gfx.costs import human
from gfx.deploy.bench import Bench, Profile, bench
from gfx.reports.html.cells import badge, bar, cell
from gfx.reports.sensitivity.table_text import title
from gfx.sensitivity import Table

__all__ = [
    "Latency",
    "TimedNode",
    "latency_of",
    "latency_section",
    "profiled",
    "sensitivity_section",
]

_MOST = 40  # rows of the latency table


@dataclass(frozen=True)
class TimedNode:
    """The latency of one node of a program.

    Units: milliseconds of one run; share of all nodes, 0 to 1; multiply-accumulates a second.
    """

    node: str
    kind: str
    milliseconds: float
    share: float
    macs_per_second: float | None = None  # None: it has none


@dataclass(frozen=True)
class Latency:
    """Holds a latency profile, and how it was measured."""

    rows: tuple[TimedNode, ...]
    notes: tuple[str, ...] = ()  # sentences: machine, backend, medians


def latency_section(found: Latency | str) -> str:
    """Returns the slowest nodes, or why they are unknown."""
    if isinstance(found, str):
        return f'<p class="note">{escape(found)}</p>'
    rows = sorted(found.rows, key=lambda row: -row.milliseconds)
    most = max((row.milliseconds for row in rows), default=0) or 1.0
    body = "".join(_timed(row, most) for row in rows[:_MOST])
    notes = "".join(f"<p>{escape(text)}</p>" for text in found.notes)
    left = rows[_MOST:]
    if left:
        share = sum(row.share for row in left)
        notes += f'<p class="note">{len(left)} more take {share:.1%} together.</p>'
    heads = '<th scope="col">node</th><th scope="col">kind</th>' + "".join(
        f'<th scope="col" class="number">{name}</th>' for name in ("ms", "share", "MACs a second")
    )
    return (
        f'{notes}<div class="scroll tall" tabindex="0" role="region" aria-label="Latency by node">'
        f'<table class="stacks"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _timed(row: TimedNode, most: float) -> str:
    speed = "-" if row.macs_per_second is None else human(row.macs_per_second)
    filled = bar(row.milliseconds / most)
    return (
        f'<tr><th scope="row">{escape(row.node)}</th>{cell(row.kind, label="kind")}'
        f"{cell(f'{row.milliseconds:.3g}', css='number', extra=filled, label='ms')}"
        f"{cell(f'{row.share:.1%}', css='number', label='share')}"
        f"{cell(speed, css='number', label='MACs a second')}</tr>"
    )


def sensitivity_section(found: Table | str) -> str:
    """Returns the effect of shrinking each layer further, or why it is unknown."""
    if isinstance(found, str):
        return f'<p class="note">{escape(found)}</p>'
    keys = found.facts.keys
    damages = [d for row in found for d in row.damage.values() if d is not None]
    most = max(damages, default=0) or 1.0
    heads = '<th scope="col">layer</th><th scope="col">stage</th>' + "".join(
        f'<th scope="col" class="number">{escape(title(key))}</th>' for key in keys
    )
    body = ""
    for row in found:
        cells = f'<th scope="row">{escape(row.layer)}</th>'
        cells += cell("", extra=badge(row.stage), label="stage")
        for key in keys:
            damage = row.damage.get(key)
            if damage is None:
                why = row.notes.get(key, "")
                cells += cell("-", css="number absent", hint=why, label=title(key))
                continue
            filled = bar(damage / most)
            cells += cell(f"{damage:.3g}", css="number", extra=filled, label=title(key))
        body += f"<tr>{cells}</tr>"
    how = "measured" if found.facts.measured else "estimated from one backward run (fast)"
    caption = (
        f"{found.facts.metric} of the compressed program's output if one more change is made, "
        f"each alone; {how}. gfx inspect says more."
    )
    notes = _notes(found.facts.inputs)
    return (
        f'<p class="soft">{escape(caption)}</p>'
        '<div class="scroll tall" tabindex="0" role="region" aria-label="Sensitivity by layer">'
        f'<table class="stacks"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{notes}"
    )


def _notes(sentences: Sequence[str]) -> str:
    return "".join(f'<p class="note">{escape(text)}</p>' for text in sentences)


_ROUNDS, _WARMUPS = 11, 2


def profiled(
    module: fx.GraphModule, *, original: nn.Module | None = None, inputs: Any = None
) -> Latency | str:
    """Measures a module on this machine, node by node, and against the original if it is given.

    Raises: GfxError if it cannot be run.

    Example: `page(small, latency=profiled(small))`.
    """
    measured = bench(
        module,
        inputs if original is not None else None,
        against=original,
        rounds=_ROUNDS,
        warmups=_WARMUPS,
        memory=False,
        names=("the compressed program", "the original"),
    )
    return latency_of(measured)


def latency_of(measured: Bench) -> Latency | str:
    """Converts a measurement for a page; says why not, if there is no profile."""
    found = measured.profile
    if not isinstance(found, Profile):
        return f"Not measured: {found}."
    rows = tuple(
        TimedNode(node.layer, node.kind, 1e3 * node.seconds, node.share, node.rate)
        for node in found.nodes
    )
    sample = measured.model.latency
    middle, low, high = (human(1e3 * t, "ms") for t in (sample.median, sample.p10, sample.p90))
    threads = "1 thread" if measured.threads == 1 else f"{measured.threads} threads"
    notes = [
        f"{middle} a run (median; 10 % take {low} or less, "
        f"10 % {high} or more), by {measured.backend} on {threads}, "
        f"{measured.rounds} rounds; {measured.machine}",
        measured.verdict,
        str(found),
    ]
    return Latency(rows, tuple(line for text in notes for line in text.splitlines() if line))
