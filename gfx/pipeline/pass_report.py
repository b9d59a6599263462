"""Records what one pass of a recipe did, as plain data."""

import dataclasses
import math
from dataclasses import dataclass, field, replace
from typing import Any

from gfx.contract import Change, Outcome, Pass, Skip
from gfx.costs import Cost
from gfx.io.plain_data import plain
from gfx.pipeline.verify import Check

__all__ = ["PassReport", "Timing", "pass_report"]


@dataclass(frozen=True)
class Timing:
    """The measured latency under a budget on latency.

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
    between: tuple[float, float] = (0.0, 0.0)  # interval of the result's true median

    @property
    def speedup(self) -> float:
        """How many times as fast the result is."""
        return self.before / self.after if self.after else math.inf


@dataclass(frozen=True)
class PassReport:
    """Records what one pass did.

    Example:
        >>> PassReport("fuse_batch_norm", {}).changes
        ()
    """

    name: str
    spec: dict[str, Any]  # its fields when it ran
    changes: tuple[Change, ...] = ()
    skips: tuple[Skip, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    before: Cost | None = None  # totals only, no nodes
    after: Cost | None = None
    checks: tuple[Check, ...] = ()  # empty: not verified
    asked: tuple[str, ...] = ()  # fields that are not at their defaults
    timings: dict[str, Any] = field(default_factory=dict, compare=False)  # measured latencies
    seconds: float = field(default=0.0, compare=False)  # applying and checking


def pass_report(
    pass_: Pass,
    outcome: Outcome,
    before: Cost,
    after: Cost,
    checks: tuple[Check, ...],
    seconds: float,
) -> PassReport:
    """Records what one pass did, in plain data: a report equals its own JSON copy."""
    return PassReport(
        name=pass_.name,
        spec=_without_measured(plain(pass_.spec()[pass_.name])),
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


def _without_measured(spec: dict[str, Any]) -> dict[str, Any]:
    """Removes limits that follow from the measured latency of the original."""
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
