"""The report of a compilation: plain data, stored on the result, printed as text.

What depends on the clock is left out of comparisons: two runs of one recipe, model and seed give
equal reports.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from gfx.contract import Change, Outcome, Pass, Skip
from gfx.costs import Cost
from gfx.errors import GfxError
from gfx.io.plain_data import coerce, plain
from gfx.pipeline.record import Record
from gfx.pipeline.report_text import render
from gfx.pipeline.verify import Check

__all__ = ["PassReport", "Report", "Timing", "attach", "pass_report", "report"]

ATTRIBUTE = "gfx_report"


@dataclass(frozen=True)
class Timing:
    """Tells what the clock said of a budget on latency.

    Units: milliseconds of one run.

    Example:
        >>> Timing(backend="eager", threads=2, machine="A", limit=5, before=50, after=4).speedup
        12.5
    """

    backend: str
    threads: int
    machine: str
    limit: float
    before: float  # the model, median
    after: float  # the result, median
    between: tuple[float, float] = (0.0, 0.0)  # where the true median of the result lies

    @property
    def speedup(self) -> float:
        """How many times as fast the result is."""
        return self.before / self.after


@dataclass(frozen=True)
class PassReport:
    """Tells what one pass did.

    Example:
        >>> PassReport("fuse_batch_norm", {}).changes
        ()
    """

    name: str
    spec: dict[str, Any]  # its fields, as it ran
    changes: tuple[Change, ...] = ()
    skips: tuple[Skip, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    before: Cost | None = None  # totals only, no nodes
    after: Cost | None = None
    checks: tuple[Check, ...] = ()  # empty: not verified
    asked: tuple[str, ...] = ()  # fields that are not at their defaults
    timings: dict[str, Any] = field(default_factory=dict, compare=False)  # what the clock said
    seconds: float = field(default=0.0, compare=False)  # applying and checking


@dataclass(frozen=True)
class Report:
    """Tells what a recipe did to a model.

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
    record: Record | None = None  # of the original; None in files of before gfx kept one

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
        """Reads what `to_dict` wrote.

        Raises: GfxError if that is no report.

        Example:
            >>> Report.from_dict({"source": "Net"}).source
            'Net'
        """
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


def report(module: nn.Module) -> Report:
    """Returns the report of a module that gfx made.

    Raises: GfxError if it has none.

    Example:
        >>> report(nn.ReLU())
        Traceback (most recent call last):
        gfx.errors.GfxError: this ReLU has no gfx report; pass what gfx.apply or gfx.load returned
    """
    found = getattr(module, ATTRIBUTE, None)
    if isinstance(found, Mapping):
        return Report.from_dict(found)
    if not isinstance(found, Report):
        raise GfxError(
            f"this {type(module).__name__} has no gfx report; "
            "pass what gfx.apply or gfx.load returned"
        )
    return found


def pass_report(
    pass_: Pass,
    outcome: Outcome,
    before: Cost,
    after: Cost,
    checks: tuple[Check, ...],
    seconds: float,
) -> PassReport:
    """Writes down what one pass did, in plain data: a report equals its own JSON copy."""
    return PassReport(
        name=pass_.name,
        spec=_without_clock(plain(pass_.spec()[pass_.name])),
        asked=_asked(pass_),
        changes=tuple(
            replace(c, before=plain(c.before), after=plain(c.after)) for c in outcome.changes
        ),
        skips=tuple(outcome.skips),
        details=plain(outcome.details),
        timings=plain(outcome.timings),
        before=replace(before, nodes=()),
        after=replace(after, nodes=()),
        checks=checks,
        seconds=seconds,
    )


def _without_clock(spec: dict[str, Any]) -> dict[str, Any]:
    """Takes out of a spec the limits that follow from what the clock said of the original."""
    if not isinstance(spec.get("budget"), list):
        return spec
    return {
        **spec,
        "budget": [
            {**budget, "limit": 0.0} if budget.get("fraction") is not None else budget
            for budget in spec["budget"]
        ],
    }


def _asked(pass_: Pass) -> tuple[str, ...]:
    """Names the fields that differ from their defaults."""
    names = []
    for field_ in dataclasses.fields(pass_):
        default = field_.default
        if field_.default_factory is not dataclasses.MISSING:
            default = field_.default_factory()
        if field_.init and getattr(pass_, field_.name) != default:
            names.append(field_.name)
    return tuple(names)
