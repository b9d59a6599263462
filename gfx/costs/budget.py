"""Defines budgets: limits on what a program may cost."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from gfx.costs.cost import CONVENTIONS, Cost, human
from gfx.costs.latency_reading import Reading, verdict
from gfx.errors import BudgetError, RecipeError, TimingError, check_range, did_you_mean

__all__ = ["BACKENDS", "LATENCY", "MEASURES", "Budget", "known", "overrun"]

LATENCY = "latency"
MEASURES = ("macs", "params", "param_bytes", "peak_activation_bytes", LATENCY)
BACKENDS = ("eager", "compile", "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits what a program may cost in one measure.

    A latency is limited in milliseconds, or to a fraction of what the original takes. Such a
    budget has no limit until the original is measured.

    Raises: RecipeError if a field has no meaning.

    Example:
        >>> budget = Budget(limit=2.67e9, convention="output")
        >>> budget.name, budget.said(budget.limit)
        ('macs (output)', '2.67 G')
        >>> Budget(measure="latency", limit=40, backend="onnxruntime").name
        'latency (onnxruntime)'
    """

    measure: str = "macs"  # macs, params, param_bytes, peak_activation_bytes or latency
    convention: str = "exact"  # of counting macs: exact, output or output+norm
    limit: float = 0.0  # largest value allowed, > 0, of a latency ms; 0: the fraction says it
    fraction: float | None = None  # of the original's latency, 0 < fraction ≤ 1
    backend: str = "eager"  # what runs the program: eager, compile or onnxruntime
    threads: int | None = None  # that it runs on; None: as many as torch takes

    def __post_init__(self) -> None:
        known("budget", "measure", self.measure, MEASURES)
        known("budget", "convention", self.convention, CONVENTIONS)
        known("budget", "backend", self.backend, BACKENDS)
        if not self.timed and (self.fraction, self.backend, self.threads) != (None, "eager", None):
            raise RecipeError(
                f"budget: fraction, backend and threads are of a latency, not of {self.measure}"
            )
        if self.fraction is not None:
            check_range("budget: fraction", self.fraction, above=0, at_most=1)
        if self.threads is not None:
            check_range("budget: threads", self.threads, at_least=1, at_most=4096)
        if not 0 < self.limit < math.inf and (self.fraction is None or self.limit):
            raise RecipeError(f"budget: limit={self.limit} must be positive and finite")

    @property
    def timed(self) -> bool:
        """Whether the budget limits a measured latency, not a count."""
        return self.measure == LATENCY

    @property
    def name(self) -> str:
        """The measure, with the convention or the backend where there is one."""
        if self.timed:
            threads = "" if self.threads is None else f", {_plural(self.threads, 'thread')}"
            return f"latency ({self.backend}{threads})"
        return f"macs ({self.convention})" if self.measure == "macs" else self.measure

    @property
    def asked(self) -> float:
        """The fraction if there is one, else the limit: what does not depend on a measurement."""
        return self.limit if self.fraction is None else self.fraction

    def said(self, value: float) -> str:
        """Writes a value with its unit."""
        unit = "ms" if self.timed else "B" if self.measure.endswith("bytes") else ""
        return human(value, unit)

    def value(self, cost: Cost) -> int:
        """Returns the figure of a cost that this budget limits; no cost has a latency."""
        assert not self.timed, "a latency is measured, not counted"
        if self.measure == "macs":
            return int(getattr(cost.macs, CONVENTIONS[self.convention]))
        return int(getattr(cost, self.measure))

    def kept(self, cost: Cost) -> bool:
        """Whether a cost is within the limit; a budget on latency counts as kept."""
        return self.timed or self.value(cost) <= self.limit

    def check(self, cost: Cost) -> None:
        """Checks a cost; a budget on latency is checked by `check_time`.

        Raises: BudgetError with measure, value, limit and shortfall if the cost is too high.

        Example:
            >>> from gfx.costs import Macs
            >>> Budget(limit=100).check(Cost(Macs.same(100), 2, 8, 64))
        """
        if not self.kept(cost):
            raise overrun(self, self.value(cost))

    def of(self, original: Reading) -> "Budget":
        """Returns the budget with its limit in milliseconds, of what the original took.

        Example:
            >>> Budget(measure="latency", fraction=0.1).of(Reading((50.0,))).limit
            5.0
        """
        return self if self.fraction is None else replace(self, limit=self.fraction * original.ms)

    def check_time(self, after: Reading) -> None:
        """Checks the measured latency of a program.

        Raises: BudgetError with what was measured, the limit and the spread if it is above the
        limit by more than noise; TimingError if the noise leaves that open.

        Example:
            >>> Budget(measure="latency", limit=40).check_time(Reading((39.0, 38.5, 39.5)))
        """
        found = verdict(after.ms, *after.bounds, self.limit)
        between = " and ".join(map(self.said, after.bounds))
        spread = f"{self.said(after.ms)} (median of {len(after.times)} runs, between {between})"
        if found == "over":
            raise BudgetError(f"{overrun(self, after.ms)}; measured {spread}")
        if found == "unclear":
            raise TimingError(
                f"{self.name}: this machine is too noisy to tell whether the limit of "
                f"{self.said(self.limit)} is kept: measured {spread}; stop what else runs on it, "
                "or raise the budget"
            )


def overrun(budget: Budget, value: float) -> BudgetError:
    """Makes the error that states by how much a value exceeds a budget."""
    over = value - budget.limit
    return BudgetError(
        f"{budget.name} is {budget.said(value)} and the limit {budget.said(budget.limit)}:"
        f" it exceeds the budget by {budget.said(over)} ({100 * over / budget.limit:.1f} %);"
        " remove more, or raise the budget"
    )


def known(where: str, what: str, name: object, names: Iterable[str]) -> None:
    """Raises RecipeError, with the nearest name, if a name is unknown."""
    names = tuple(names)
    if name in names:
        return
    hint = did_you_mean(name, names, f"known: {', '.join(names)}", cutoff=0.5)
    raise RecipeError(f"{where}: unknown {what} {name!r}{hint}")


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" + ("" if count == 1 else "s")
