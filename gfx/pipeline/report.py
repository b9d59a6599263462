"""Defines the report of a compilation: plain data, stored on the result, printed as text.

Measured times are left out of comparisons: two runs of one recipe, model and seed give equal
reports. As text a report is about forty lines; long lists are cut with a count.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from gfx.contract import Change
from gfx.costs import Cost
from gfx.errors import GfxError
from gfx.io.archive import ModelPath, as_module
from gfx.io.guards import printable
from gfx.io.plain_data import coerce, plain
from gfx.io.plain_limits import beyond_limits
from gfx.io.text_lines import wrapped
from gfx.io.yaml_text import one_line
from gfx.ir.ambient_modes import shielded
from gfx.ir.model_kinds import require_module
from gfx.pipeline.pass_report import PassReport, Timing
from gfx.pipeline.record import Record
from gfx.pipeline.verify import Check

__all__ = ["ROWS", "Report", "attach", "render", "report", "said"]

ATTRIBUTE = "gfx_report"
_SHOWN = 6  # entries of a list before it is cut
_FROZEN = "computed from weights, of which some are gone; it no longer follows them in training"
_NUMBERS = 8  # of a list that is written out
ROWS: tuple[tuple[str, Callable[[Cost], int]], ...] = (
    ("MACs, exact", lambda cost: cost.macs.exact),
    ("MACs, output", lambda cost: cost.macs.output),
    ("MACs, output+norm", lambda cost: cost.macs.output_norm),
    ("parameters", lambda cost: cost.params),
    ("parameter bytes", lambda cost: cost.param_bytes),
    ("peak activation bytes", lambda cost: cost.peak_activation_bytes),
)


@shielded
@dataclass(frozen=True)
class Report:
    """Reports what a recipe did to a model.

    `str(report)` is a table to read, `to_dict` is data for JSON, `from_dict` reads it back.

    Example:
        >>> Report.from_dict(Report(source="Net").to_dict()) == Report(source="Net")
        True
    """

    source: str  # class name of the model
    frontend: str = "given"
    inputs: tuple[str, ...] = ()  # "float32 1x3x256x256"
    assumed: tuple[str, ...] = ()
    opaque: tuple[tuple[str, str], ...] = ()  # (module path, reason)
    notes: tuple[str, ...] = ()
    before: Cost | None = None
    after: Cost | None = None
    passes: tuple[PassReport, ...] = ()
    verified: bool = False
    recipe: dict[str, Any] = field(default_factory=dict)  # every default written out
    gfx_version: str = ""
    torch_version: str = ""
    timings: tuple[Timing, ...] = field(default=(), compare=False)  # for budgets on latency
    seconds: float = field(default=0.0, compare=False)
    record: Record | None = None  # of the original; None in files that predate records

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as data that JSON can hold; pictures are in it too, as base64.

        Example:
            >>> Report(source="Net").to_dict()["source"]
            'Net'
        """
        data: dict[str, Any] = plain(self)
        return data

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Report":
        """Reads the data that `to_dict` wrote.

        Raises: GfxError if that is no report.

        Example:
            >>> Report.from_dict({"source": "Net"}).source
            'Net'
        """
        problem = beyond_limits(data)
        if problem:
            raise GfxError(f"this is no gfx report: it holds {problem}")
        try:
            read: Report = coerce(data, Report)
        except TypeError as error:
            raise GfxError(f"this is no gfx report: {error}") from error
        return read

    def __str__(self) -> str:
        return render(self)


def attach(module: nn.Module, report: Report) -> None:
    """Stores a report on a module, so that pickling and deep copies keep it."""
    setattr(module, ATTRIBUTE, report)  # pickled with the module
    # a GraphModule copies only what its graph needs, and what this entry names
    meta = vars(module).setdefault("meta", {})
    meta.setdefault("_user_preserved_attributes", {})[ATTRIBUTE] = report


def report(module: nn.Module | ModelPath) -> Report:
    """Returns the report of a module that gfx made, or of a file with one.

    Raises: GfxError if it has none.

    Example:
        >>> report(nn.ReLU())
        Traceback (most recent call last):
        gfx.errors.GfxError: this ReLU has no gfx report; pass what gfx.apply returned or saved
    """
    opened = require_module(as_module(module))
    found = getattr(opened, ATTRIBUTE, None)
    if isinstance(found, Mapping):
        return Report.from_dict(found)
    if not isinstance(found, Report):
        kind = type(opened).__name__
        raise GfxError(f"this {kind} has no gfx report; pass what gfx.apply returned or saved")
    return found


def render(report: Report, width: int | None = None) -> str:
    """Writes a report as plain text, no line wider than `width`.

    None: as wide as the terminal, or as the variable COLUMNS says, else 80.
    """
    width = width or shutil.get_terminal_size((80, 24)).columns
    # a report may come from a file, and names in it may hold what moves the cursor
    lines = (printable(line) for text in _lines(report) for line in text.splitlines() or [""])
    return "\n".join(part for line in lines for part in wrapped(line, width))


def _lines(report: Report) -> Iterator[str]:
    yield f"gfx {report.gfx_version}, torch {report.torch_version}: {report.seconds:.1f} s"
    yield f"model {report.source}, front end {report.frontend}, {_inputs(report)}"
    yield from _cut([f"  {sentence}" for sentence in report.assumed])
    yield from _cut([f"  opaque: {path}: {why}" for path, why in report.opaque])
    yield from _cut([f"  note: {sentence}" for sentence in report.notes])
    yield ""
    yield from _costs(report)
    if report.passes and not any(pass_.changes for pass_ in report.passes):
        yield "no pass found anything to change: the model computes what it did, as it did"
    for number, pass_ in enumerate(report.passes, 1):
        yield ""
        yield from _pass(number, pass_, report.verified)
    yield ""
    if not report.verified:
        yield "NOT VERIFIED: nothing was checked after any pass (verify=False)"
    yield "recipe"
    yield from _recipe(report.recipe)


def _recipe(spec: Mapping[str, Any]) -> Iterator[str]:
    """Writes a recipe as YAML, a line for each pass."""
    for key, value in spec.items():
        if key != "passes":
            yield f"  {key}: {one_line(value)}"
    yield "  passes:"
    passes = spec.get("passes")
    for entry in passes if isinstance(passes, list | tuple) else ():
        yield f"  - {one_line(entry).removeprefix('{').removesuffix('}')}"


def _inputs(report: Report) -> str:
    return "inputs " + (", ".join(report.inputs) or "none")


def _costs(report: Report) -> Iterator[str]:
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


def _timing(timing: Timing) -> Iterator[str]:
    label = f"latency, {timing.backend}, ms"
    share = f"{timing.after / timing.before:.3f}" if timing.before else "-"
    yield f"{label:<24}{timing.before:>18,.4g}{timing.after:>18,.4g}{share:>14}"
    threads = "1 thread" if timing.threads == 1 else f"{timing.threads} threads"
    yield f"  limit {timing.limit:.4g} ms; {threads} of {timing.machine}"


def _pass(number: int, pass_: PassReport, verified: bool) -> Iterator[str]:
    fields = ", ".join(f"{name}={said(pass_.spec.get(name))}" for name in pass_.asked)
    yield f"{number}. {pass_.name}({fields}): {pass_.seconds:.1f} s"
    yield f"   changed {len(pass_.changes)}, left alone {len(pass_.skips)}"
    yield from _cut([f"     {_change(change)}" for change in pass_.changes])
    yield from _cut([f"     left alone {skip.node}: {skip.why}" for skip in pass_.skips])
    details = dict(pass_.details)
    for indices in ("kept", "tensors"):  # of every module and tensor: for `--json`
        details.pop(indices, None)
    frozen = details.pop("stored", ())
    yield from _cut([f"     frozen {name}: {_FROZEN}" for name in frozen])
    reasons = details.pop("approximate", {})
    if isinstance(reasons, Mapping):  # a sentence for each group, too long for one line
        yield from _cut([f"     approximate {name}: {why}" for name, why in reasons.items()])
    details |= {f"ms {key}": value for key, value in pass_.timings.items()}
    yield from _cut([f"   {key}: {said(value)}" for key, value in details.items()])
    if pass_.before is not None and pass_.after is not None:
        yield (
            f"   exact MACs {pass_.before.macs.exact:,} → {pass_.after.macs.exact:,}, "
            f"parameters {pass_.before.params:,} → {pass_.after.params:,}"
        )
    if verified:
        yield "   checked " + "; ".join(_check(check) for check in pass_.checks)


def _change(change: Change) -> str:
    if change.before is None and change.after is None:
        return f"{change.node}: {change.what}"
    return f"{change.node}: {change.what} {said(change.before)} → {said(change.after)}"


def _check(check: Check) -> str:
    if check.passed is None:
        return f"{check.name} not checked ({check.detail})"
    if check.error is None:
        return check.name
    allowed = "" if check.tolerance is None else f" ({check.tolerance:.0e} allowed)"
    return f"{check.name} differ by {check.error:.1e}{allowed}"


def _cut(lines: Iterable[str]) -> Iterator[str]:
    lines = list(lines)
    yield from lines[:_SHOWN]
    if len(lines) > _SHOWN:
        indent = " " * (len(lines[0]) - len(lines[0].lstrip()))
        yield f"{indent}... and {len(lines) - _SHOWN} more"


def said(value: Any) -> str:
    """Writes plain data as a reader wants it; long lists of numbers are counted.

    Example:
        >>> said([{"group": "stem", "removed": 4}, {"group": "up", "removed": 8}])
        'group stem, removed 4; group up, removed 8'
    """
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        parts = [f"{key} {said(item)}" for key, item in value.items() if item is not None]
        return ", ".join(parts) or "none"
    if isinstance(value, list | tuple):
        numbers = all(isinstance(item, int | float) for item in value)
        if numbers and len(value) > _NUMBERS:
            return f"({len(value)} numbers)"
        between = "; " if any(isinstance(item, Mapping) for item in value) else ", "
        return between.join(map(said, value)) or "none"
    if isinstance(value, float):
        return f"{int(value):,}" if value.is_integer() and abs(value) > 1 else f"{value:.6g}"
    return json.dumps(value, default=str)
