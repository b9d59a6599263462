"""Measures a model, alone or against another (`gfx bench`)."""

import time
from typing import Any

import torch
from torch import nn

from gfx.costs import Cost, cost_of
from gfx.deploy.bench.bench_result import Bench
from gfx.deploy.bench.figures import Figures
from gfx.deploy.bench.memory import UNASKED, peak_memory
from gfx.deploy.bench.node_times import profile_eager
from gfx.deploy.bench.onnx_times import profile_onnx
from gfx.deploy.bench.profile import Profile
from gfx.deploy.bench.protocol import protocol_of, timed
from gfx.deploy.bench.timed_model import TimedModel, batch_of, subjects
from gfx.deploy.timing import Backend, Runner, TimingSample, machine, prepare, speedup
from gfx.deploy.timing.interleave import Clock
from gfx.errors import GfxError
from gfx.io.archive import ModelPath, as_module
from gfx.ir.program import Program
from gfx.objects.take_apart import leaves
from gfx.progress import Progress, reported, stage

__all__ = ["bench"]

_RUNS = 10  # of a profile


@reported
def bench(
    model: "nn.Module | Program | ModelPath",
    example_inputs: Any = None,
    *,
    against: "nn.Module | Program | ModelPath | None" = None,
    backend: Backend = "eager",
    threads: int | None = None,
    device: str | None = None,
    rounds: int | None = None,
    warmups: int | None = None,
    protocol: str | None = None,
    profile: bool = True,
    memory: bool = True,
    names: tuple[str, str] = ("model", "against"),
    progress: Progress = False,
    clock: Clock = time.perf_counter,
) -> Bench:
    """Measures latency, memory and cost of a model in eval mode, and its speed-up over another.

    Both run in turns on the same inputs. The models are left unchanged.

    Args:
        model: a module, a Program, or a path that `gfx.open_model` opens; timing needs no trace.
        example_inputs: a tensor, a tuple or a dict; None takes those that the model was made for,
            or infers them and notes the assumptions.
        against: the model to compare with.
        backend: eager, compile or onnxruntime.
        threads: of the processor, while a model runs; None is as many as torch is set to.
        device: cpu or cuda; None is where each model is.
        rounds: how often each is timed, at least 5; None takes as many as fit in 20 seconds,
            from 11 to 100.
        warmups: how often each runs before timing; None is 3.
        protocol: "paper" is batch 1, 100 warm-ups and 100 rounds.
        profile: whether to time the model node by node too.
        memory: whether to measure peak memory, in a child process.
        names: of the two in the result.
        progress: True shows a line on stderr; a function is called with each
            `gfx.progress.ProgressEvent`.
        clock: returns the time in seconds.

    Raises: InputError if a backend or device is not available, a model does not run on the
    inputs, they were made for other shapes, or too few rounds are asked for.

    Example: `gfx.bench(small, against=large, backend="onnxruntime").speedup` →
    `Interval(value=3.2, low=3.1, high=3.3)`.
    """
    found = subjects(as_module(model), example_inputs, as_module(against), names)
    batch = batch_of(found[0].inputs)
    how = protocol_of(protocol, rounds, warmups, batch=batch)
    traced = [subject.traced(check=_checked(profile, backend)) for subject in found]
    runners = []
    for subject, program in zip(found, traced, strict=True):
        stage(f"preparing {subject.name} for {backend}")
        runners.append(_runner(subject, program, backend, threads, device))
    samples = timed(runners, how, clock=clock)
    figures = [
        _figures(subject, runner, sample, program, memory)
        for subject, runner, sample, program in zip(found, runners, samples, traced, strict=True)
    ]
    return Bench(
        model=figures[0],
        against=figures[1] if against is not None else None,
        speedup=speedup(samples[1], samples[0]) if against is not None else None,
        profile=_profile(found[0], runners[0], traced[0], figures[0], clock) if profile else "",
        machine=machine(),
        backend=backend,
        threads=runners[0].threads,
        device=runners[0].device,
        inputs=_described(found[0].inputs),
        rounds=len(samples[0].times),
        warmups=how.warmups,
        protocol=protocol,
        notes=found[0].assumed,
    )


def _checked(profile: bool, backend: str) -> bool:
    """Whether the graph runs, or is timed, instead of the model: both must then agree."""
    return profile or backend == "onnxruntime"


def _runner(
    subject: TimedModel,
    program: "Program | str",
    backend: Backend,
    threads: int | None,
    device: str | None,
) -> Runner:
    """Prepares a model; onnxruntime takes the graph, whose export names nodes by layers."""
    if backend == "onnxruntime" and isinstance(program, Program):
        module, inputs = program.module, program.example_inputs
        return prepare(module, inputs, backend, threads=threads, device=device)
    return prepare(subject.module, subject.inputs, backend, threads=threads, device=device)


def _figures(
    subject: TimedModel,
    runner: Runner,
    sample: TimingSample,
    program: "Program | str",
    memory: bool,
) -> Figures:
    if memory:
        stage(f"measuring the memory of {subject.name}")
    return Figures(
        name=subject.name,
        latency=sample,
        batch=batch_of(subject.inputs),
        memory=peak_memory(subject, runner, program) if memory else UNASKED,
        model_bytes=subject.model_bytes,
        cost=_cost(program),
    )


def _cost(program: "Program | str") -> Cost | str:
    if isinstance(program, str):
        return program
    try:
        return cost_of(program)
    except GfxError as error:
        return str(error)


def _profile(
    subject: TimedModel, runner: Runner, program: "Program | str", figures: Figures, clock: Clock
) -> Profile | str:
    """Times the model node by node, or says why not."""
    stage(f"timing {subject.name} node by node")
    if runner.backend == "onnxruntime":
        inputs = program.example_inputs if isinstance(program, Program) else subject.inputs
        cost = figures.cost if isinstance(figures.cost, Cost) else None
        return profile_onnx(runner, inputs, cost, runs=_RUNS)
    if isinstance(program, str):
        return f"no profile, as it takes a trace: {program}"
    notes = ("compile fuses nodes, so this profile is of eager",)
    return profile_eager(
        program,
        runs=_RUNS,
        threads=runner.threads,
        device=runner.device,
        notes=notes if runner.backend == "compile" else (),
        clock=clock,
    )


def _described(inputs: Any) -> tuple[tuple[tuple[int, ...], str], ...]:
    tensors = [x for x in leaves(inputs) if isinstance(x, torch.Tensor)]
    return tuple((tuple(x.shape), str(x.dtype).removeprefix("torch.")) for x in tensors)
