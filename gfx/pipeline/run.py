"""Applies the passes of a recipe in turn, checks each, and checks the budgets at the end."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from gfx.contract import Context, Keeps, Outcome, Pass
from gfx.costs import Budget, Meter, cost_of
from gfx.errors import BudgetError, InputError, TimingError, VerificationError
from gfx.io.data import replayable
from gfx.ir.execute import tolerance
from gfx.ir.memory_format import formats_of, store_in_formats
from gfx.ir.program import Program
from gfx.ir.random_state import seed_torch
from gfx.ir.shapes.propagate import propagate
from gfx.pipeline.pass_context import named, resolve
from gfx.pipeline.pass_report import PassReport, Timing, pass_report
from gfx.pipeline.recipe import Recipe
from gfx.pipeline.shared_budget import SharedBudget, shared
from gfx.pipeline.verify import Check, honesty, signature, structure, values
from gfx.planning import resolve_limits
from gfx.progress import out_of_time, stage

__all__ = ["Run"]

_PLANS = 4  # times that a result is planned
_STEP = 1.02  # by which limits to aim at are lowered at least
_LEAST = 1e-3  # of a limit: where every plan but the smallest is above what to aim at
_AGAIN = 2  # times that a result is measured again: other load only ever adds time


class Run:
    """Applies the passes of one recipe in turn, and keeps results that the next one can reuse."""

    def __init__(
        self, program: Program, recipe: Recipe, data: Any, verify: bool, meter: Meter | None = None
    ) -> None:
        data = replayable(data)  # two passes may look at it
        self.program = program
        self.verify = verify
        self.cost = cost_of(program)
        self.context = self._context(recipe, data, meter)
        self.excess = 0.0  # measured latency of the result / limit
        self.known: Any = None  # the program's output on the check inputs, once it ran

    def _context(self, recipe: Recipe, data: Any, meter: Meter | None) -> Context:
        """Builds the context that all passes share; copies the original only if needed."""
        own: list[Budget] = []
        for pass_ in recipe.passes:
            with named(pass_, "own_budgets"):
                own += pass_.own_budgets
        limits = resolve_limits(recipe.budget, self.program, meter, own)
        original = limits.meter.original if limits.meter is not None else None
        if original is None and any(pass_.needs_original for pass_ in recipe.passes):
            original = self.program.copy(on_write=True)
        return Context(
            data=data,
            original=original,
            meter=limits.meter,
            seed=recipe.seed or 0,
            budgets=limits.budgets,
        )

    def kept(self, passes: Sequence[Pass]) -> tuple[tuple[PassReport, ...], tuple[Timing, ...]]:
        """Applies passes until the result keeps every budget; returns reports and latencies.

        A result that is slower than its plan was when the search measured it is planned anew, with
        limits that much lower, at last with the lowest that there are. A budget is refused where
        that leads to the same result, or the time is over.

        Raises: as `check` does.
        """
        timed = any(budget.timed for budget in self.context.budgets)
        planned = timed and any(pass_.takes_budget for pass_ in passes)
        start = self.program.copy(on_write=True) if planned else None
        cost, before = self.cost, None
        for number in range(_PLANS):
            reports = self.passes(passes)
            try:
                return reports, self.check()
            except (BudgetError, TimingError):
                same = self.cost == before
                if start is None or same or out_of_time() or number == _PLANS - 1:
                    raise
            stage("planning a smaller result: this one is slower than its plan was")
            before, self.cost, self.known = self.cost, cost, None
            self._aim_lower(last=number == _PLANS - 2)
            self.program.module = start.copy(on_write=True).module
        raise AssertionError("the last plan is returned or refused")

    def _aim_lower(self, *, last: bool) -> None:
        """Lowers the limits that searches aim at by what was measured above them."""
        meter = self.context.meter
        assert meter is not None
        meter.share = _LEAST if last else meter.share / max(self.excess, _STEP)

    def passes(self, passes: Sequence[Pass]) -> tuple[PassReport, ...]:
        """Applies passes; those that share the recipe's budget are planned together."""
        todo = [resolve(pass_, self.context) for pass_ in passes]
        sharing = [n for n, p in enumerate(passes) if p.takes_budget and self.context.budgets]
        plan = SharedBudget(dict(enumerate(todo)))
        reports = []
        for place in range(len(todo)):
            if len(sharing) > 1 and place == sharing[0]:
                seed_torch(self.context.seed)
                plan = shared(self.program, todo, sharing, self.context)
            reports.append(self.step(plan.passes[place], plan))
        return tuple(reports)

    def step(self, pass_: Pass, plan: SharedBudget) -> PassReport:
        """Applies one pass, checks it and reports it."""
        started, before = time.perf_counter(), self.cost
        stage(f"{pass_.name}: applying")
        old = self.program.copy(on_write=True) if self.verify else None
        outcome = self._apply(pass_, plan.context(pass_, self.context))
        if old is None:
            checks: tuple[Check, ...] = ()
            _propagate(pass_, self.program)
            _ensure(pass_, self.program)
        else:
            stage(f"{pass_.name}: checking")
            with named(pass_, "the check of its result"):
                checks = self._check(pass_, old, outcome)
        with named(pass_, "the cost of its result"):
            self.cost = cost_of(self.program)
            plan.add_plan(pass_, outcome)
        seconds = time.perf_counter() - started
        with named(pass_, "the report of its outcome"):
            return pass_report(pass_, outcome, before, self.cost, checks, seconds)

    def check(self) -> tuple[Timing, ...]:
        """Checks that the result keeps every budget, and returns the measured latencies.

        Raises: BudgetError if it does not; TimingError if the machine is too noisy to decide.
        """
        self.excess = 0.0
        for budget in self.context.budgets:
            budget.check(self.cost)
        timed = [budget for budget in self.context.budgets if budget.timed]
        return tuple(self._timing(budget) for budget in timed)

    def _timing(self, budget: Budget) -> Timing:
        meter = self.context.meter
        assert meter is not None
        before = meter.before(budget)
        stage("measuring the result")
        after = meter.read(self.program, budget)
        for _ in range(_AGAIN):
            if after.ms <= budget.limit:
                break
            stage("measuring the result again, before it is rejected")
            after = meter.read(self.program, budget)
        self.excess = max(self.excess, after.ms / budget.limit)
        budget.check_time(after)
        return Timing(
            backend=budget.backend,
            threads=budget.threads or torch.get_num_threads(),
            machine=meter.meter.machine(),
            limit=budget.limit,
            before=before.ms,
            after=after.ms,
            between=after.bounds,
        )

    def _apply(self, pass_: Pass, context: Context) -> Outcome:
        with named(pass_, "requires"):
            pass_.requires(self.program)
        seed_torch(self.context.seed)
        formats = formats_of(self.program.module)
        with named(pass_, "apply"):
            outcome = pass_.apply(self.program, context)
        if isinstance(outcome, Outcome) and outcome.modified:
            store_in_formats(self.program.module, formats)
        return outcome

    def _check(self, pass_: Pass, old: Program, outcome: Outcome) -> tuple[Check, ...]:
        new = self.program
        if not isinstance(outcome, Outcome):
            raise VerificationError(
                f"{pass_.name}: apply returned {type(outcome).__name__}, not an Outcome"
            )
        well_formed = structure(pass_, new)
        _ensure(pass_, new)
        same, honest = signature(pass_, old, new), honesty(pass_, old, new, outcome)
        if not outcome.modified:  # honest, hence the same bytes: nothing needs to run
            return (well_formed, same, honest, Check("values", True, 0.0, tolerance(new)))
        seed_torch(self.context.seed)
        reference = old if Keeps.VALUES in pass_.keeps else None
        if outcome.reference is not None:
            with named(pass_, "the reference of its outcome"):
                reference = outcome.reference(old)
        known = self.known if reference is old else None
        equal, self.known = values(pass_, new, reference, known)
        return (well_formed, same, honest, equal)


def _ensure(pass_: Pass, program: Program) -> None:
    with named(pass_, "ensures"):
        pass_.ensures(program)


def _propagate(pass_: Pass, program: Program) -> None:
    try:
        propagate(program)
    except InputError as error:
        raise VerificationError(f"{pass_.name}: the result does not run: {error}") from error
