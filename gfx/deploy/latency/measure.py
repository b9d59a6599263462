"""Measures the latency of convolutions, nodes and whole programs.

Every action runs once before it counts: torch keeps its code for a shape only until a thousand
others came between, and a caller always runs the same ones. Of the runs in a turn the quickest
counts and of the turns the median, since other load only ever adds time. A reference action runs
beside them; where it takes longer in one round than in another, the machine changed, and the rounds
are repeated.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from gfx.deploy.latency.single_conv import Point, piece
from gfx.deploy.timing import prepare
from gfx.deploy.timing.backends import threads_of, using_threads
from gfx.errors import TimingError
from gfx.ir.execute import on_meta
from gfx.ir.interpreter import Get, Interpreter
from gfx.ir.program import Program
from gfx.progress import step

__all__ = ["MachineMeasurer", "Measurer", "measured"]

_REFERENCE, _FEWEST = 8, 3  # runs of the reference in a round, at most and at least
_ATTEMPTS = 3
_LONG = 0.03  # seconds

Action = Callable[[], object]


class Measurer(Protocol):
    """Measures milliseconds: by a timer, or in tests by a machine made of formulas."""

    def points(self, points: Sequence[Point], backend: str, threads: int) -> list[float]:
        """Returns the milliseconds of single convolutions."""
        ...

    def nodes(self, programs: Sequence[Program], threads: int) -> list[dict[str, float]]:
        """Returns the milliseconds of each program's nodes by name, run one by one in torch."""
        ...

    def programs(self, programs: Sequence[Program], backend: str, threads: int) -> list[float]:
        """Returns the milliseconds of whole programs."""
        ...


@dataclass(frozen=True)
class MachineMeasurer:
    """Measures with a timer on this machine."""

    clock: Callable[[], float] = time.perf_counter  # returns seconds
    rounds: int = 3
    drift: float = 0.4  # share by which the reference may differ from round to round

    def points(self, points: Sequence[Point], backend: str, threads: int) -> list[float]:
        """Returns the milliseconds of single convolutions."""
        with using_threads(threads), torch.inference_mode():
            made = [piece(point, backend, threads) for point in points]
            return self._turns(made, _counted(len(points), "convolution"))

    def programs(self, programs: Sequence[Program], backend: Any, threads: int) -> list[float]:
        """Returns the milliseconds of whole programs."""
        made: list[Action] = [
            prepare(twin.module, twin.example_inputs, backend, threads=threads)
            for twin in map(_with_content, programs)
        ]
        return self._turns(made, _counted(len(programs), "program"))

    def nodes(self, programs: Sequence[Program], threads: int) -> list[dict[str, float]]:
        """Returns the milliseconds of each node, run one by one in torch."""
        found = []
        with using_threads(threads), torch.inference_mode():
            for program in map(_with_content, programs):
                twin = program.copy()
                runner = _Nodes(twin.module.eval(), self.clock)
                runs = [runner.times(*program.example_inputs) for _ in range(2 + self.rounds)]
                times = np.median(runs[2:], axis=0) * 1e3
                names = [node.name for node in twin.graph.nodes]
                found.append(dict(zip(names, times.tolist(), strict=True)))
        return found

    def _turns(self, actions: Sequence[Action], what: str) -> list[float]:
        """Times actions round by round; repeats the rounds where the reference drifts.

        Raises: TimingError if it drifts in every attempt.
        """
        drifts = []
        for _ in range(_ATTEMPTS):
            times = np.zeros((self.rounds, len(actions)))
            with step(f"timing {what}", times.size) as counted:
                references = [self._round(actions, row, counted.advance) for row in times]
            drifts.append(max(references) / min(references) - 1)
            if drifts[-1] <= self.drift:
                return [float(t) * 1e3 for t in np.median(times, axis=0)]
        drift = ", ".join(f"{100 * drift:.0f} %" for drift in drifts)
        fewer = ", or use fewer threads" if torch.get_num_threads() > 1 else ""
        raise TimingError(
            f"this machine is too noisy to time {what}: the same reference took up to {drift} "
            f"longer in one round than in another, in {_ATTEMPTS} attempts (up to "
            f"{100 * self.drift:.0f} % is allowed); stop what else runs{fewer}"
        )

    def _round(self, actions: Sequence[Action], times: Any, done: Action) -> float:
        """Times every action once; returns the median of the reference."""
        reference, found = _reference(), []
        every = max(2, len(actions) // _REFERENCE)
        for i, action in enumerate(actions):
            if i % every == 0:
                found.append(self._quickest(reference))
            times[i] = self._quickest(action)
            done()
        found += [self._quickest(reference) for _ in range(_FEWEST - len(found))]
        return float(np.median(found))

    def _quickest(self, action: Action) -> float:
        """Runs an action once to warm up, then twice; returns the quickest.

        A long one runs once: what disturbs it does so for a small share of it.
        """
        warm = self._timed(action)
        return min(self._timed(action) for _ in range(1 if warm > _LONG else 2))

    def _timed(self, action: Action) -> float:
        start = self.clock()
        action()
        return self.clock() - start


def measured(
    program: Program,
    backend: str = "eager",
    threads: int | None = None,
    *,
    measurer: Measurer | None = None,
) -> float:
    """Measures one run of a program in milliseconds: a median.

    Raises: InputError if the backend is not installed; TimingError if the machine is too noisy.
    """
    return (measurer or MachineMeasurer()).programs([program], backend, threads_of(threads))[0]


class _Nodes(Interpreter):
    """Runs a graph node by node and times each."""

    def __init__(self, module: fx.GraphModule, clock: Callable[[], float]) -> None:
        super().__init__(module)
        self._clock = clock
        self._times: list[float] = []

    def times(self, *inputs: Any) -> list[float]:
        """Returns the seconds of each node."""
        self._times = []
        self.run(*inputs)
        return self._times

    def value(self, node: fx.Node, get: Get) -> Any:
        """Runs a node."""
        start = self._clock()
        result = super().value(node, get)
        self._times.append(self._clock() - start)
        return result


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"


def _reference() -> Action:
    """Makes a reference action of steady duration: arithmetic, and memory moved."""
    layer = nn.Conv2d(32, 32, 3, padding=1).requires_grad_(False)
    x = torch.ones(1, 32, 64, 64)

    def run() -> None:
        with torch.inference_mode():
            for _ in range(3):
                layer(x).add_(x)

    return run


def _with_content(program: Program) -> Program:
    """Returns a program that has values to compute with; on the meta device they are drawn."""
    if not on_meta(program):
        return program
    twin = program.copy()
    twin.module.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*twin.module.parameters(), *twin.module.buffers()):
            tensor.fill_(1)
    twin.example_inputs = pytree.tree_map_only(
        Tensor, lambda x: torch.ones_like(x, device="cpu"), program.example_inputs
    )
    return twin
