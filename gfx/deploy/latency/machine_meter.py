"""Measures latency on this machine, as the Meter of budgets on latency."""

import time
from collections.abc import Sequence
from typing import Any

from gfx.costs import LatencyPredictor, Reading
from gfx.coupling import Groups
from gfx.deploy.latency.model import latency_model
from gfx.deploy.timing import Runner, interleaved, machine, prepare, seconds
from gfx.deploy.timing.interleave import Clock as Ticks
from gfx.ir.program import Program

__all__ = ["MachineMeter"]

_SECONDS = 2.5  # for one reading
_FEWEST, _MOST = 9, 61  # rounds


class MachineMeter:
    """Measures on this machine; programs of one reading take turns.

    Example:
        >>> import gfx
        >>> meter = MachineMeter(ticks=iter(range(1000)).__next__)  # every call takes a second
        >>> (reading,) = meter.read([gfx.trace(gfx.zoo.build("dcgan", ngf=4))], "eager", 1)
        >>> reading.ms, len(reading.times)
        (1000.0, 9)
    """

    def __init__(self, ticks: Ticks = time.perf_counter) -> None:
        self._ticks = ticks
        self._ready: dict[tuple[str, int | None], tuple[Program, Runner]] = {}

    def read(
        self, programs: Sequence[Program], backend: str, threads: int | None, effort: int = 1
    ) -> list[Reading]:
        """Runs programs in turns and returns a reading of each; effort 2 takes more rounds.

        The first of several stays prepared: it is the original, to compare the others with.

        Raises: InputError if the backend is not installed.
        """
        runners = [self._runner(p, backend, threads, n == 0) for n, p in enumerate(programs)]
        once = sum(seconds(runner, clock=self._ticks) for runner in runners)
        wanted = effort * int(_SECONDS / max(once, 1e-6))
        rounds = min(max(wanted, effort * _FEWEST), effort * _MOST)
        found = interleaved(runners, rounds=rounds, warmups=1, clock=self._ticks)
        return [Reading(tuple((1e3 * sample.times).tolist())) for sample in found]

    def predictor(self, groups: Groups, backend: str, threads: int | None) -> LatencyPredictor:
        """Builds the latency model of a program by measurements."""
        return latency_model(groups, backend=backend, threads=threads)

    def machine(self) -> str:
        """Names the machine, in a few words."""
        return str(machine())

    def _runner(self, program: Program, backend: Any, threads: int | None, first: bool) -> Runner:
        known = self._ready.get((backend, threads))
        if known is not None and known[0] is program:
            return known[1]
        runner = prepare(program.module, program.example_inputs, backend, threads=threads)
        if first:
            self._ready[backend, threads] = (program, runner)
        return runner
