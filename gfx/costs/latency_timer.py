"""Measures latencies for budgets, beside the original program that fractions refer to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from gfx.costs.budget import Budget
from gfx.costs.cost import Cost
from gfx.costs.count import cost_of
from gfx.costs.latency_reading import LatencyPredictor, Meter, Reading, verdict
from gfx.ir.program import Program

__all__ = ["LatencyTimer"]

_MORE = 4  # times the rounds, where a first reading leaves open what was asked

Place = tuple[str, int | None]


@dataclass
class LatencyTimer:
    """Measures programs for budgets on latency.

    Under a fraction, a program is measured beside the original. Its latency is rescaled to the
    first measurement of the original, so a machine that gets slower does not matter.

    Example:
        >>> class Always:
        ...     def read(self, programs, backend, threads, effort=1):
        ...         return [Reading((10.0,) * 9) for _ in programs]
        >>> timer = LatencyTimer(Always(), original=None)
        >>> budget = timer.resolve(Budget(measure="latency", fraction=0.5))
        >>> budget.limit, timer.read(None, budget).ms
        (5.0, 10.0)
    """

    meter: Meter
    original: Program | None
    share: float = 1.0  # of each limit to aim at; less after a result was measured above it
    _first: dict[Place, Reading] = field(default_factory=dict)
    # measured latencies too noisy to decide
    _open: list[tuple[Budget, Reading]] = field(default_factory=list)

    def before(self, budget: Budget) -> Reading:
        """Returns what the original took when it was first measured."""
        key = (budget.backend, budget.threads)
        if key not in self._first:
            (self._first[key],) = self.meter.read([self.original], *key)
        return self._first[key]

    def resolve(self, budget: Budget) -> Budget:
        """Resolves a fraction of the original's latency to a limit in milliseconds."""
        open_ = budget.timed and budget.fraction is not None
        return budget.of(self.before(budget)) if open_ else budget

    def read(self, program: Any, budget: Budget) -> Reading:
        """Measures a program, with more rounds where noise leaves open whether the limit is kept.

        Raises: TimingError if it stays open whether the limit is kept.
        """
        reading = self._reading(program, budget)
        if _unclear(reading, budget):
            budget.check_time(reading)
        return reading

    def tried(self, program: Any, budget: Budget) -> float:
        """Returns the milliseconds of a program that a search tries.

        Where it stays open whether the limit is kept, that is the most that it may take: the search
        then goes on below, where it is clear.
        """
        reading = self._reading(program, budget)
        if _unclear(reading, budget):
            self._open.append((budget, reading))
            return reading.bounds[1]
        return reading.ms

    def blame_noise(self) -> None:
        """Raises if noise may be why a search found nothing.

        Raises: TimingError if one of its programs may have kept its limit.
        """
        if self._open:
            budget, reading = self._open[-1]
            budget.check_time(reading)

    def keeps(self, program: Any, cost: Cost, budgets: Sequence[Budget]) -> bool:
        """Whether a program keeps every budget as it is; latency is measured last.

        A program that costs what the original does, node by node, is the original: it is not
        measured again where that clearly exceeds a limit. None keeps a limit that is aimed below.
        """
        if not all(budget.kept(cost) for budget in budgets):
            return False
        timed = [budget for budget in budgets if budget.timed]
        if timed and self.share < 1:
            return False
        if self.original is not None and cost == cost_of(self.original):
            firsts = [(budget, self.before(budget)) for budget in timed]
            if any(verdict(r.ms, *r.bounds, b.limit) == "over" for b, r in firsts):
                return False
        readings = [(b, self.read(program, b)) for b in budgets if b.timed]
        return all(verdict(r.ms, *r.bounds, b.limit) == "met" for b, r in readings)

    def predictor(self, groups: Any, budget: Budget) -> LatencyPredictor:
        """Returns a predictor of the latency of the groups' program."""
        # a meter written for version 0.1.0 has the method under the name `foresee`
        predictor = getattr(self.meter, "predictor", None) or getattr(self.meter, "foresee")  # noqa: B009
        return cast(LatencyPredictor, predictor(groups, budget.backend, budget.threads))

    def _reading(self, program: Any, budget: Budget) -> Reading:
        reading = self._read(program, budget, 1)
        return self._read(program, budget, _MORE) if _unclear(reading, budget) else reading

    def _read(self, program: Any, budget: Budget, effort: int) -> Reading:
        where = (budget.backend, budget.threads, effort)
        if budget.fraction is None:
            return self.meter.read([program], *where)[0]
        other, reading = self.meter.read([self.original, program], *where)
        return reading.beside(other, self.before(budget).ms)


def _unclear(reading: Reading, budget: Budget) -> bool:
    return verdict(reading.ms, *reading.bounds, budget.limit) == "unclear"
