"""Checks a run before its first step: every name, net and term, and one step of every player.

1. Each stage is built from what the one before it would leave, untrained, and takes one step on
   copies: nothing of it reaches the run.
2. A state is written and read back.
3. Time and memory are estimated from that step.
4. What it took is given back to the system: a run needs no more at its peak than its steps do.
"""

import copy
import ctypes
import dataclasses
import gc
import io
import resource
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter, process_time
from typing import Any

import torch

from gfx.costs import cost_of
from gfx.errors import InputError
from gfx.frontend.driver import traced
from gfx.progress import stage as report_stage
from gfx.train.loop.fit_loop import FitLoop, finite
from gfx.train.runs.run_system import SystemRun
from gfx.train.runs.search_stage import StageSearch
from gfx.train.systems.fit_fields import GIVEN

__all__ = ["RunPlan", "StagePlan", "give_back_memory", "preflight"]


@dataclass(frozen=True)
class StagePlan:
    """What a stage costs: of its student, and of its training."""

    name: str
    steps: int
    macs: int
    params: int
    seconds: float  # estimated, of the training
    # parameters of the side players that learn with it, by name
    sides: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        beside = "".join(f"; beside it {n}, {p:,} parameters" for n, p in self.sides.items())
        trained = f"; {self.steps:,} steps, about {_duration(self.seconds)}" if self.steps else ""
        return f"{self.name}: {self.macs:,} MACs, {self.params:,} parameters{beside}{trained}"


@dataclass(frozen=True)
class RunPlan:
    """What a run will do.

    Example:
        >>> given = StagePlan("given", 0, 4_000, 60, 0.0)
        >>> print(RunPlan((given, StagePlan("slim", 100, 2_000, 30, 60.0)), 5 * 2**20))
        given: 4,000 MACs, 60 parameters
        slim: 2,000 MACs, 30 parameters; 100 steps, about 1 min
        estimated: 1 min of training, 5 MB of memory
    """

    stages: tuple[StagePlan, ...]  # the first is the model as it was given
    memory: int  # bytes that the process has taken at most, two steps of each stage included

    def __str__(self) -> str:
        return "\n".join([*map(str, self.stages), self.estimate])

    @property
    def estimate(self) -> str:
        """Says how long the training takes, and how much memory."""
        seconds = sum(stage.seconds for stage in self.stages)
        return (
            f"estimated: {_duration(seconds)} of training, {self.memory / 2**20:,.0f} MB of memory"
        )

    def spec(self) -> dict[str, Any]:
        """Returns the plan as plain data."""
        return dataclasses.asdict(self)


def preflight(run: SystemRun) -> RunPlan:
    """Builds every stage and takes one step of each (rules 1 to 4).

    Raises: GfxError of what does not fit.
    """
    plan = _tried(run)
    give_back_memory()
    return plan


def give_back_memory() -> None:
    """Gives freed memory back to the system, where the C library can (rule 4)."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # of other C libraries
        ctypes.CDLL(None).malloc_trim(0)


def _tried(run: SystemRun) -> RunPlan:
    trial = copy.copy(run)
    trial.nets = run.nets.copy()
    trial.trained = {}
    example = run.example()
    run.evaluation(run.system.stages[0]).check()
    before = cost_of(traced(run.model, example, check=False))
    plans = [StagePlan(GIVEN, 0, before.macs.exact, before.params, 0.0)]
    for number, stage in enumerate(run.system.stages):
        report_stage(f"checking stage {stage.name}")
        steps = 0
        seconds = 0.0
        if stage.fit is not None:
            loader = trial.loader_of(stage)
            length = trial.length(stage, loader)
            steps = length.total
        student = trial.prepared(stage, steps)
        if stage.search is not None:
            search = StageSearch(trial, number, stage, student)
            seconds, student = search.check(), search.some_net()
        if (
            number == 0 and stage.search is None
        ):  # it begins with what was given: the run begins with the same
            run.first = student
        cost = cost_of(traced(student, example, check=False))
        sides: dict[str, int] = {}
        if stage.fit is not None:
            builder = trial.builder(number, stage)
            loop = builder.loop(copy.deepcopy(student), length)
            run.say((*builder.said, *builder.loader.about))
            seconds = _one_step(loop) * steps
            critic = loop.players[-1].plain_critic
            if critic is not None:
                trial.nets.critics[stage.name] = critic
            trial.nets.take_partners(loop.players[-1])
            for name, side in loop.players[-1].sides.items():
                sides[name] = sum(p.numel() for p in side.net.parameters())
        trial.nets.generators[stage.name] = student
        trial.nets.last = stage.name
        trial.trained[stage.name] = steps
        plans.append(StagePlan(stage.name, steps, cost.macs.exact, cost.params, seconds, sides))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return RunPlan(tuple(plans), peak)


def _one_step(loop: FitLoop) -> float:
    """Takes two steps, writes the state and reads it back; returns seconds of the second."""
    batches = next(loop.stream(0))
    loop.take(0, batches)
    start, cpu = perf_counter(), process_time()
    loop.take(0, batches)
    seconds = min(perf_counter() - start, max(process_time() - cpu, 1e-9) * 2)
    if not finite(loop.players):
        raise InputError(
            f"stage {loop.name}: after one step some weights are not finite; lower lr, or give "
            "clip: 1"
        )
    for player in loop.players:
        buffer = io.BytesIO()
        torch.save(player.state_dict(), buffer)
        buffer.seek(0)
        player.load_state_dict(torch.load(buffer, weights_only=True))
    return seconds


def _duration(seconds: float) -> str:
    if seconds < 45:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / 3600:.1f} h"
