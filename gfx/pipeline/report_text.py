"""A report as text: about forty lines, long lists cut with a count."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gfx.contract import Change
    from gfx.costs import Cost
    from gfx.pipeline.report import PassReport, Report, Timing
    from gfx.pipeline.verify import Check

__all__ = ["ROWS", "render"]

_SHOWN = 6  # entries of a list before it is cut
ROWS: tuple[tuple[str, Callable[["Cost"], int]], ...] = (
    ("MACs, exact", lambda cost: cost.macs.exact),
    ("MACs, output", lambda cost: cost.macs.output),
    ("MACs, output+norm", lambda cost: cost.macs.output_norm),
    ("parameters", lambda cost: cost.params),
    ("parameter bytes", lambda cost: cost.param_bytes),
    ("peak activation bytes", lambda cost: cost.peak_activation_bytes),
)


def render(report: "Report") -> str:
    """Writes a report as a plain text table."""
    return "\n".join(_lines(report))


def _lines(report: "Report") -> Iterator[str]:
    yield f"gfx {report.gfx_version}, torch {report.torch_version}: {report.seconds:.1f} s"
    yield f"model {report.source}, front end {report.frontend}, {_inputs(report)}"
    yield from _cut([f"  {sentence}" for sentence in report.assumed])
    yield from _cut([f"  opaque: {path}: {why}" for path, why in report.opaque])
    yield from _cut([f"  note: {sentence}" for sentence in report.notes])
    yield ""
    yield from _costs(report)
    for number, pass_ in enumerate(report.passes, 1):
        yield ""
        yield from _pass(number, pass_, report.verified)
    yield ""
    if not report.verified:
        yield "NOT VERIFIED: nothing was checked after any pass (verify=False)"
    yield f"recipe {json.dumps(report.recipe)}"


def _inputs(report: "Report") -> str:
    return "inputs " + (", ".join(report.inputs) or "none")


def _costs(report: "Report") -> Iterator[str]:
    before, after = report.before, report.after
    if before is None or after is None:
        return
    yield f"{'':<24}{'before':>18}{'after':>18}{'after/before':>14}"
    for label, pick in ROWS:
        old, new = pick(before), pick(after)
        share = f"{new / old:.3f}" if old else "-"
        yield f"{label:<24}{old:>18,}{new:>18,}{share:>14}"
    for timing in report.timings:
        yield from _timing(timing)


def _timing(timing: "Timing") -> Iterator[str]:
    label = f"latency, {timing.backend}, ms"
    share = timing.after / timing.before
    yield f"{label:<24}{timing.before:>18,.4g}{timing.after:>18,.4g}{share:>14.3f}"
    threads = "1 thread" if timing.threads == 1 else f"{timing.threads} threads"
    yield f"  limit {timing.limit:.4g} ms; {threads} of {timing.machine}"


def _pass(number: int, pass_: "PassReport", verified: bool) -> Iterator[str]:
    fields = ", ".join(f"{name}={_short(pass_.spec[name])}" for name in pass_.asked)
    yield f"{number}. {pass_.name}({fields}): {pass_.seconds:.1f} s"
    yield f"   changed {len(pass_.changes)}, left alone {len(pass_.skips)}"
    yield from _cut([f"     {_change(change)}" for change in pass_.changes])
    yield from _cut([f"     left alone {skip.node}: {skip.why}" for skip in pass_.skips])
    details = dict(pass_.details)
    reasons = details.pop("approximate", {})
    if isinstance(reasons, Mapping):  # a sentence for each group, too long for one line
        yield from _cut([f"     approximate {name}: {why}" for name, why in reasons.items()])
    details |= {f"ms {key}": value for key, value in pass_.timings.items()}
    yield from _cut([f"   {key}: {_short(value)}" for key, value in details.items()])
    if pass_.before is not None and pass_.after is not None:
        yield (
            f"   exact MACs {pass_.before.macs.exact:,} → {pass_.after.macs.exact:,}, "
            f"parameters {pass_.before.params:,} → {pass_.after.params:,}"
        )
    if verified:
        yield "   checked " + "; ".join(_check(check) for check in pass_.checks)


def _change(change: "Change") -> str:
    if change.before is None and change.after is None:
        return f"{change.node}: {change.what}"
    return f"{change.node}: {change.what} {_short(change.before)} → {_short(change.after)}"


def _check(check: "Check") -> str:
    if check.passed is None:
        return f"{check.name} not checked ({check.detail})"
    if check.error is not None:
        return f"{check.name} differ by {check.error:.1e} ({check.tolerance:.0e} allowed)"
    return check.name


def _cut(lines: Iterable[str]) -> Iterator[str]:
    lines = list(lines)
    yield from lines[:_SHOWN]
    if len(lines) > _SHOWN:
        indent = " " * (len(lines[0]) - len(lines[0].lstrip()))
        yield f"{indent}... and {len(lines) - _SHOWN} more"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
