"""Fits the layers and norms of a program to the original, one after the other, on data.

1. A layer or norm reads what the program computes with all units before it fitted already.
2. A step (the change of weights or statistics that least squares asks for) is taken as far as it
   does not raise the held-out error: whole, or halved up to three times; else the unit stays.

Source: He et al. 2017, arXiv:1707.06168, section 3.2 (asymmetric reconstruction, layer by layer).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from gfx.compression.refit.accumulate import Sampling, gather, shortage, statistics
from gfx.compression.refit.fit_units import NormStatistics, Target, Unit
from gfx.compression.refit.paired_runs import PairedRuns
from gfx.compression.refit.sample_size import Supply
from gfx.costs import cost_of
from gfx.errors import PreconditionError, VerificationError
from gfx.ir.program import Program
from gfx.progress import each

__all__ = ["FitResult", "FitSettings", "fit_program"]

_HALVINGS = 3
_NOISE = 64  # units of rounding up to which two activations are the same


@dataclass(frozen=True)
class FitSettings:
    """Says how layers are fitted, and on how much data."""

    ridge: float  # times the mean diagonal of the Gram matrix
    positions: float  # of a layer's output, times its unknowns
    examples: int | None  # read at most; None: as many as most of the layers need
    held_out: float  # share of the examples that the error is measured on
    rounds: int  # passes over all units
    relu: int  # times that a layer before a ReLU is fitted again to what the ReLU passes
    memory: float  # bytes of activations that are held
    seed: int


@dataclass(frozen=True)
class FitResult:
    """Held-out errors before and after, and what became of each unit."""

    error: tuple[float, float]  # of the program, before and after
    examples: tuple[int, int]  # fitted on, held out
    fitted: dict[str, tuple[float, float]]  # by path: the error before and after its steps
    left: dict[str, str]  # by path: why it stays as it was


def fit_program(
    program: Program,
    original: Program,
    data: Any,
    units: Sequence[Unit],
    settings: FitSettings,
) -> FitResult:
    """Fits units in place to what the original computes, from input to output.

    Both programs have shapes; the original stays as it is.

    Raises: PreconditionError if the data is too small for layers that do much of the work, or
    activations are not finite; VerificationError if the program is not deterministic.
    """
    layers = [unit for unit in units if isinstance(unit, Target)]
    supply = Supply(layers)
    examples = settings.examples
    if examples is None:
        macs = cost_of(program).macs.exact
        examples = supply.examples_to_read(settings.positions, settings.held_out, macs)
    runs = PairedRuns(
        program,
        original,
        data,
        examples=examples,
        held_out=settings.held_out,
        memory=settings.memory,
        seed=settings.seed,
    )
    fit = _Fit(runs, supply, settings)
    norms: list[Any] = [unit.module for unit in units if isinstance(unit, NormStatistics)]
    norms += [unit.shift.module for unit in layers if unit.shift is not None]
    with runs.running():
        error = fit.go(units)
        solved = [(norm, norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
    for norm, mean, var in solved:  # `running` restored the buffers
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
    taken = {path: (steps[0][0], steps[-1][1]) for path, steps in fit.taken.items()}
    raised = {path: why for path, why in fit.raised.items() if path not in taken}
    return FitResult(error, runs.examples, taken, raised | fit.short_of_data)


class _Fit:
    """Takes the steps of all units, and keeps the held-out error of the program as it now is."""

    def __init__(self, runs: PairedRuns, supply: Supply, settings: FitSettings) -> None:
        self.runs, self.supply, self.settings = runs, supply, settings
        self.sampling = Sampling(settings.positions, settings.seed)
        self.error = 0.0
        self.taken: dict[str, list[tuple[float, float]]] = {}  # error before and after each step
        self.raised: dict[str, str] = {}  # how much a step that was not taken raises the error
        self.short_of_data: dict[str, str] = {}  # why the data does not determine the weights

    def go(self, units: Sequence[Unit]) -> tuple[float, float]:
        """Fits every unit in turn; returns the held-out error before and after."""
        started = self.error = self.runs.error(0)
        for _ in range(self.settings.rounds):
            self.runs.restart()
            for i, unit in each(list(enumerate(units)), "refitting layers"):
                keep = {old for later in units[i:] for old in later.olds}
                if isinstance(unit, Target):
                    self._fit_layer(unit, keep)
                else:
                    self._fit_norm(unit, keep)
        self.runs.restart()
        ended = self.runs.error(0)
        if ended > started * (1 + 1e-9):
            raise VerificationError(
                f"the held-out error grew from {started:.6g} to {ended:.6g}, although no "
                "step made it grow: the model does not give the same numbers twice"
            )
        return started, ended

    def _fit_layer(self, unit: Target, keep: set[fx.Node]) -> None:
        """Solves for the weights of a layer, unless they are right or the data is too small."""
        gathered = gather(self.runs, unit, self.sampling, keep)
        module = unit.layer.module
        if gathered.gap <= _NOISE * torch.finfo(module.weight.dtype).eps:
            return
        why = shortage(self.runs, unit, gathered.equations)
        if why and self.supply.too_small(self.runs.examples[0]):
            raise PreconditionError(f"{unit.path} has {why}, or leave the layer out of targets")
        if why:
            self.short_of_data[unit.path] = f"too little data: it has {why}"
            return
        ridge = self.settings.ridge
        solution = gathered.equations.solve(ridge)
        weight, base = module.weight.data, module.weight.detach().clone()
        change, shift = solution.weight, solution.bias
        before_relu = [goal.cut for goal in unit.goals] == [True]
        for _ in range(self.settings.relu if before_relu else 0):
            weight.copy_(base.double() + change)
            again = gather(self.runs, unit, self.sampling, keep, gathered.equations, shift)
            further = again.equations.solve(ridge)
            change = change + further.weight
            shift = None if shift is None or further.bias is None else shift + further.bias
        weight.copy_(base)
        self._take_step(unit, [(weight, change), *_constants(unit, shift)])

    def _fit_norm(self, unit: NormStatistics, keep: set[fx.Node]) -> None:
        """Estimates the running statistics of a norm."""
        mean, var = statistics(self.runs, unit, keep)
        norm: Any = unit.module
        steps = [
            (norm.running_mean, mean - norm.running_mean.double()),
            (norm.running_var, var - norm.running_var.double()),
        ]
        if any(not torch.equal((value + step).to(value.dtype), value) for value, step in steps):
            self._take_step(unit, steps)

    def _take_step(self, unit: Unit, steps: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Takes a step, or as much of it as does not raise the held-out error (rule 2)."""
        before = self.error
        bases = [value.clone() for value, _ in steps]
        place = min(self.runs.new.place[goal.call] for goal in unit.goals)
        errors = []
        for share in [0.5**i for i in range(_HALVINGS + 1)]:
            for base, (value, step) in zip(bases, steps, strict=True):
                value.copy_(base.double() + share * step)
            errors.append(self.runs.error(place))
            if errors[-1] <= before:
                self.error = errors[-1]
                self.taken.setdefault(unit.path, []).append((before, self.error))
                return
        for base, (value, _) in zip(bases, steps, strict=True):
            value.copy_(base)
        self.raised[unit.path] = (
            f"fitting it raises the held-out error from {before:.4g} to {errors[0]:.4g}, and "
            f"to {errors[-1]:.4g} at {0.5**_HALVINGS} of the step"
        )


def _constants(unit: Target, shift: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    """Returns what holds the constant of a layer, and by how much it changes.

    That is the layer's bias or, if it has none, the running mean of the norm behind it.
    """
    bias = unit.layer.module.bias
    if shift is None:
        return []
    if bias is not None:
        return [(bias.data, shift)]
    assert unit.shift is not None
    assert unit.shift.module.running_mean is not None
    return [(unit.shift.module.running_mean, -shift)]
