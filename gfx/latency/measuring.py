"""Asks the clock: what whole programs take."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gfx.numerics import on_meta
from gfx.program import Program

__all__ = ["Clocked", "Measurer", "measured"]

_ROUNDS = 7


class Measurer(Protocol):
    """Says what things take; the clock, or in tests a machine made of formulas."""

    def programs(self, programs: Sequence[Program], backend: str, threads: int) -> list[float]:
        """Returns the milliseconds of one run of each program, in inference mode."""
        ...


class Clocked:
    """Measures with the clock: medians over rounds in which all take turns."""

    def programs(self, programs: Sequence[Program], backend: str, threads: int) -> list[float]:
        """Returns the milliseconds of one run of each program, in inference mode."""
        runners = [_runner(program, threads) for program in programs]
        return _interleaved(runners)


def measured(
    program: Program,
    backend: str = "eager",
    threads: int | None = None,
    *,
    measurer: Measurer | None = None,
) -> float:
    """Returns the milliseconds that one run of a program really takes: a median."""
    threads = torch.get_num_threads() if threads is None else threads
    return (measurer or Clocked()).programs([program], backend, threads)[0]


def _runner(program: Program, threads: int) -> Callable[[], object]:
    """Makes a call that runs a copy of a program in inference mode."""
    twin = program.copy()
    twin.module.eval()
    if on_meta(program):
        twin.module.to_empty(device="cpu")
        for tensor in (*twin.module.parameters(), *twin.module.buffers()):
            with torch.no_grad():
                tensor.fill_(0.01)
    inputs: tuple[Any, ...] = pytree.tree_map_only(
        Tensor,
        lambda x: torch.zeros_like(x, device="cpu") if x.device.type == "meta" else x.clone(),
        program.example_inputs,
    )

    def run() -> object:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                return twin.module(*inputs)
        finally:
            torch.set_num_threads(before)

    return run


def _interleaved(runners: Sequence[Callable[[], object]]) -> list[float]:
    for runner in runners:
        runner()
    times: list[list[float]] = [[] for _ in runners]
    for _ in range(_ROUNDS):
        for runner, found in zip(runners, times, strict=True):
            start = time.perf_counter()
            runner()
            found.append((time.perf_counter() - start) * 1e3)
    return [median(found) for found in times]
