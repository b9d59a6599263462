"""Applies the passes of a recipe in turn, checks each, and sees that the budgets are kept."""

import dataclasses
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from gfx.contract import Outcome, Pass
from gfx.costs import Budget, LatencyTimer, Meter, cost_of, parse_budget
from gfx.errors import InputError, VerificationError
from gfx.io.data import replayable
from gfx.ir.execute import tolerance
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate
from gfx.pipeline.pass_report import PassReport, Timing, pass_report
from gfx.pipeline.recipe import Recipe
from gfx.pipeline.shared_budget import SharedPlan, shared
from gfx.pipeline.verify import Check, honesty, signature, structure, values

__all__ = ["Run", "settle"]

_logger = logging.getLogger(__name__)


class Run:
    """Applies the passes of one recipe in turn, and remembers what the next one can reuse."""

    def __init__(
        self, program: Program, recipe: Recipe, data: Any, verify: bool, meter: Meter | None = None
    ) -> None:
        self.program = program
        self.data = replayable(data)  # two passes may look at it
        self.verify = verify
        self.seed = recipe.seed or 0
        self.cost = cost_of(program)
        budgets = parse_budget(recipe.budget, self.cost) if recipe.budget else ()
        self.stopwatch = _stopwatch(program, (*budgets, *_own_budgets(recipe.passes)), meter)
        self.budgets = self._with_limits(budgets)
        self.known: Any = None  # what the program gives on the check inputs, once it was run

    def passes(self, passes: Sequence[Pass]) -> tuple[PassReport, ...]:
        """Applies passes; those that share the recipe's budget are planned together."""
        todo = [self._settled(pass_) for pass_ in passes]
        sharing = [n for n, pass_ in enumerate(passes) if _open(pass_, self.budgets)]
        plan = SharedPlan(dict(enumerate(todo)))
        reports = []
        for place in range(len(todo)):
            if len(sharing) > 1 and place == sharing[0]:
                torch.manual_seed(self.seed)
                plan = shared(self.program, todo, sharing, self.data, self.seed)
            reports.append(self.step(plan.passes[place], plan))
        return tuple(reports)

    def step(self, pass_: Pass, plan: SharedPlan) -> PassReport:
        """Applies one pass, checks it and reports it."""
        started, before = time.perf_counter(), self.cost
        _logger.info("%s: applying", pass_.name)
        old = self.program.copy() if self.verify else None
        outcome = self._apply(pass_)
        if old is None:
            checks: tuple[Check, ...] = ()
            _propagate(pass_, self.program)
            pass_.ensures(self.program)
        else:
            _logger.info("%s: checking", pass_.name)
            checks = self._check(pass_, old, outcome)
        self.cost = cost_of(self.program)
        plan.tell(pass_, outcome)
        seconds = time.perf_counter() - started
        return pass_report(pass_, outcome, before, self.cost, checks, seconds)

    def check(self) -> tuple[Timing, ...]:
        """Checks that the result keeps every budget, and tells what was measured.

        Raises: BudgetError if it does not; TimingError if the machine is too noisy to tell.
        """
        for budget in self.budgets:
            budget.check(self.cost)
        timed = [budget for budget in self.budgets if budget.timed]
        return tuple(self._timing(budget) for budget in timed)

    def _timing(self, budget: Budget) -> Timing:
        assert self.stopwatch is not None
        before = self.stopwatch.before(budget)
        after = self.stopwatch.read(self.program, budget)
        if after.ms > budget.limit:  # a second look, before all that was done is thrown away
            after = self.stopwatch.read(self.program, budget)
        budget.check_time(after)
        return Timing(
            backend=budget.backend,
            threads=budget.threads or torch.get_num_threads(),
            machine=self.stopwatch.meter.machine(),
            limit=budget.limit,
            before=before.ms,
            after=after.ms,
            between=after.bounds,
        )

    def _settled(self, pass_: Pass) -> Pass:
        pass_ = settle(pass_, self.budgets, self.seed)
        own = getattr(pass_, "budget", None)
        return replace(pass_, budget=self._with_limits(own)) if own else pass_  # type: ignore[call-arg]

    def _with_limits(self, budgets: tuple[Budget, ...]) -> tuple[Budget, ...]:
        watch = self.stopwatch
        return budgets if watch is None else tuple(watch.settled(budget) for budget in budgets)

    def _apply(self, pass_: Pass) -> Outcome:
        pass_.requires(self.program)
        torch.manual_seed(self.seed)
        return pass_.apply_with(self.program, self.data)

    def _check(self, pass_: Pass, old: Program, outcome: Outcome) -> tuple[Check, ...]:
        new = self.program
        if not isinstance(outcome, Outcome):
            raise VerificationError(
                f"{pass_.name}: apply returned {type(outcome).__name__}, not an Outcome"
            )
        well_formed = structure(pass_, new)
        pass_.ensures(new)
        same, honest = signature(pass_, old, new), honesty(pass_, old, new, outcome)
        if not outcome.modified:  # honest, hence the same bytes: there is nothing to run
            return (well_formed, same, honest, Check("values", True, 0.0, tolerance(new)))
        torch.manual_seed(self.seed)
        if outcome.expected is not None:
            reference: Program | None = outcome.expected(old)
        else:
            reference = (outcome.resolved or pass_).reference(old)
        known = self.known if reference is old else None
        equal, self.known = values(pass_, new, reference, known)
        return (well_formed, same, honest, equal)


# fields by which a pass says itself how far it goes
_SAYS = ("budget", "ratio", "ratios", "widths", "kept", "rank", "layers", "where")


def settle(pass_: Pass, budgets: tuple[Budget, ...], seed: int) -> Pass:
    """Gives a pass the recipe's seed and budget where it takes them and has none of its own.

    A pass that says itself what to do (a ratio, widths, the channels kept, ranks, where) is given
    no budget: that is then only checked at the end.

    Example:
        >>> from passes.channel_prune import ChannelPrune
        >>> settle(ChannelPrune(ratio=0.5), (), seed=3).seed
        3
    """
    names = {f.name for f in dataclasses.fields(pass_)}
    given: dict[str, Any] = {}
    if "seed" in names and getattr(pass_, "seed") is None:  # noqa: B009 - not a field of Pass
        given["seed"] = seed
    if _open(pass_, budgets):
        given["budget"] = budgets
    return replace(pass_, **given) if given else pass_


def _open(pass_: Pass, budgets: tuple[Budget, ...]) -> bool:
    """Whether a pass gets the recipe's budget."""
    names = {f.name for f in dataclasses.fields(pass_)}
    own = any(_says(pass_, name) for name in _SAYS)
    return bool(budgets) and "budget" in names and not own


def _own_budgets(passes: Sequence[Pass]) -> list[Budget]:
    """Lists the budgets that passes of a recipe have of their own."""
    found = [getattr(pass_, "budget", None) or () for pass_ in passes]
    return [budget for budgets in found for budget in budgets if isinstance(budget, Budget)]


def _stopwatch(
    program: Program, budgets: Sequence[Budget], meter: Meter | None
) -> LatencyTimer | None:
    """Gives a program a stopwatch, if a budget needs one."""
    if not any(budget.timed for budget in budgets):
        return None
    from gfx.deploy.latency.machine_meter import MachineMeter  # heavy, and rarely needed

    stopwatch = LatencyTimer(meter or MachineMeter(), program.copy())
    program.stopwatch = stopwatch
    return stopwatch


def _says(pass_: Pass, name: str) -> bool:
    value = getattr(pass_, name, None)
    return value is not None and value not in ({}, ())


def _propagate(pass_: Pass, program: Program) -> None:
    try:
        propagate(program)
    except InputError as error:
        raise VerificationError(f"{pass_.name}: the result does not run: {error}") from error
