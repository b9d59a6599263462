"""Repairs a pruned or decomposed program in closed form: no labels, no training.

Before   y' = w' x'          x' differs from the original's x, so y' from the original's y
After    y' = (w' + D) x'    D minimises Σ ‖(w' + D) x' - y‖² + λ ‖D‖² over the data
Source   He et al. 2017, arXiv:1707.06168 (channel pruning, section 3.2: asymmetric reconstruction;
         3.3: sums of branches); Luo et al. 2017, arXiv:1707.06342 (ThiNet); Zhang et al. 2015,
         arXiv:1505.06798 (section 3.2: nonlinear responses).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from gfx.compression.refit import (
    FitRefusal,
    NormStatistics,
    PairedRuns,
    Sampling,
    Steps,
    Supply,
    Target,
    Unit,
    gather,
    shortage,
    statistics,
    units,
)
from gfx.contract import Context, Keeps, Outcome, Pass
from gfx.costs import cost_of
from gfx.errors import PreconditionError, VerificationError, check_range
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate

__all__ = ["Refit"]

_HALVINGS = 3
_FEWEST, _MOST = 32, 4096  # examples that are read where no number is asked for
_WORK = 2e13  # MACs of the program: on large ones, fewer examples are read for it
_NOISE = 64  # units of rounding up to which two activations are the same


@dataclass(frozen=True)
class Refit(Pass):
    """Solves, layer by layer from input to output, for what reproduces the original.

    Each layer reads what the program gives it as it now is, all layers before it refitted, and is
    to give what the original gave at the channels that are left.

    1. Convolutions, transposed convolutions and linear layers are solved for; a layer whose output
       only goes into a sum, through norms perhaps, reproduces that sum. A layer without bias stays
       without; a BatchNorm behind it takes up the constant.
    2. Running statistics of BatchNorms move as those of the data do between original and program.
    3. After each step the output's error on held-out data is measured. If it grew, the step is
       halved, a few times; if it still grows, the layer is left as it was: a Skip.
    4. A layer that already gives what the original does is left alone.
    5. A layer before a ReLU, directly or through a norm, is fitted again `relu` times to what the
       ReLU lets through: where both original and program are below zero, nothing is asked for.
       A layer that is called twice is not: its second call would read something else each time.
    6. A layer for which the data has fewer positions than it has unknowns is left with a Skip
       (a squeeze-excitation, a style, what lies deep in a U-Net). If such layers do more than a
       quarter of the work, the data is too small: an error that says how much is needed.

    Data: any form of inputs that `gfx.apply` takes, read as a stream; labels are dropped.
    Shapes: all stay.
    Units: the error is ‖output - original's‖ / ‖original's‖, averaged over held-out batches.
    Raises: PreconditionError if the data is too small or activations are not finite.

    Example:
        >>> import gfx
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 3, 3)).eval()
        >>> recipe = {"passes": [{"channel_prune": {"ratio": 0.25}}, "refit"]}
        >>> images = torch.randn(8, 3, 16, 16)
        >>> small = gfx.apply(recipe, model, torch.zeros(1, 3, 16, 16), data=images)
        >>> error = gfx.report(small).passes[1].details["held_out"]
        >>> error["after"] < error["before"]
        True
    """

    name: ClassVar[str] = "refit"
    keeps: ClassVar[Keeps] = Keeps.SIGNATURE
    needs_original: ClassVar[bool] = True  # its activations are what is reproduced

    targets: tuple[str, ...] = ("*",)  # globs over the module paths of layers and norms
    ridge: float = 1e-4  # times the mean diagonal of the Gram matrix; 0 ≤ ridge
    examples: int | None = None  # read at most; None: as the bulk of the layers needs
    positions: float = 30.0  # of a layer's output that are looked at, times its unknowns
    held_out: float = 0.25  # share of the data to judge by, 0 < held_out < 1
    rounds: int = 1  # times that all layers are gone through
    relu: int = 4  # times that a layer is fitted again to what the ReLU behind it lets through
    norms: bool = True  # whether running statistics are estimated anew
    memory: float = 2.0  # GiB of activations that are held; what is beyond is computed again
    seed: int | None = None  # of the positions drawn and the order of the data; None: the recipe's

    def __post_init__(self) -> None:
        check_range("refit: ridge", self.ridge, at_least=0, below=float("inf"))
        check_range("refit: held_out", self.held_out, above=0, below=1)
        if self.examples is not None:
            check_range("refit: examples", self.examples, at_least=2)
        check_range("refit: relu", self.relu, at_least=0)
        check_range("refit: rounds", self.rounds, at_least=1)
        check_range("refit: positions", self.positions, at_least=1)
        check_range("refit: memory", self.memory, above=0)

    @property
    def needs_data(self) -> bool:
        """What is reproduced are activations, so there must be data."""
        return True

    def apply(self, program: Program, context: Context) -> Outcome:
        """Refits every target on the data.

        Raises: PreconditionError if there is no data or no original, or as the class says.
        """
        if context.data is None:
            raise PreconditionError("refit: it needs data to fit on; give data= to gfx.apply")
        if context.original is None:
            raise PreconditionError(
                "refit: the original program is not known; run the pass by gfx.apply, in the "
                "recipe that prunes, or give original= to its Context"
            )
        propagate(program)
        propagate(context.original)
        return _Run(self, program, context.original, context).outcome


class _Run:
    """One application of the pass."""

    def __init__(self, pass_: Refit, program: Program, original: Program, context: Context) -> None:
        self.pass_, self.program = pass_, program
        self.outcome = Outcome()
        seed = context.of(pass_).seed
        self.sampling = Sampling(pass_.positions, seed)
        found = self._units(original)
        layers = [unit for unit in found if isinstance(unit, Target)]
        self.supply = Supply(layers)
        self.calibration = PairedRuns(
            program,
            original,
            context.data,
            examples=self._examples(),
            held_out=pass_.held_out,
            memory=pass_.memory * 2**30,
            seed=seed,
        )
        self.taken: dict[str, list[tuple[float, float]]] = {}  # error before and after each step
        self.left: dict[str, tuple[float, float, float]] = {}  # before, at the step, at the least
        self.starved: dict[str, str] = {}  # why the data does not tell
        norms: list[Any] = [unit.module for unit in found if isinstance(unit, NormStatistics)]
        norms += [unit.shift.module for unit in layers if unit.shift is not None]
        with self.calibration.running():
            self._go(found)
            solved = [(norm, norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
        for norm, mean, var in solved:  # `running` restored the buffers
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var)

    def _units(self, original: Program) -> list[Unit]:
        """Lists what to fit, and says what cannot be."""
        found = []
        for unit in units(self.program, original, Steps(self.program)):
            if not self.pass_.named(unit.path):
                self.outcome.skip(unit.path, "targets does not name it")
            elif isinstance(unit, FitRefusal):
                self.outcome.skip(unit.path, unit.why)
            elif self.pass_.norms or isinstance(unit, Target):
                found.append(unit)
        return found

    def _examples(self) -> int:
        """Says how many examples are read at most."""
        pass_ = self.pass_
        if pass_.examples is not None:
            return pass_.examples
        total, least = (
            int(self.supply.examples(positions) / (1 - pass_.held_out)) + 1
            for positions in (pass_.positions, 1)
        )
        most = min(max(int(_WORK / max(cost_of(self.program).macs.exact, 1)), _FEWEST), _MOST)
        return max(_FEWEST, min(total, most), least)

    def _go(self, found: list[Unit]) -> None:
        """Fits every unit in turn, and says what came of it."""
        calibration = self.calibration
        started = self.error = calibration.error(0)
        for _ in range(self.pass_.rounds):
            calibration.restart()
            for i, unit in enumerate(found):
                keep = {old for later in found[i:] for old in later.olds}
                if isinstance(unit, Target):
                    self._layer(unit, keep)
                else:
                    self._norm(unit, keep)
        calibration.restart()
        ended = calibration.error(0)
        if ended > started * (1 + 1e-9):
            raise VerificationError(
                f"refit: the held-out error grew from {started:.6g} to {ended:.6g}, although no "
                "step made it grow: the model does not give the same numbers twice"
            )
        self._tell(started, ended)

    def _layer(self, unit: Target, keep: set[fx.Node]) -> None:
        gathered = gather(self.calibration, unit, self.sampling, keep)
        module = unit.layer.module
        if gathered.gap <= _NOISE * torch.finfo(module.weight.dtype).eps:
            return  # rule 4
        why = shortage(self.calibration, unit, gathered.equations)
        if why and self.supply.too_small(self.calibration.examples[0]):
            raise PreconditionError(
                f"refit: {unit.path} has {why}, or leave the layer out of targets"
            )
        if why:  # rule 6
            self.starved[unit.path] = f"too little data: it has {why}"
            return
        solution = gathered.equations.solve(self.pass_.ridge)
        weight, base = module.weight.data, module.weight.detach().clone()
        change, shift = solution.weight, solution.bias
        for _ in range(self.pass_.relu if [g.cut for g in unit.goals] == [True] else 0):  # rule 5
            weight.copy_(base.double() + change)
            again = gather(self.calibration, unit, self.sampling, keep, gathered.equations, shift)
            further = again.equations.solve(self.pass_.ridge)
            change = change + further.weight
            shift = None if shift is None or further.bias is None else shift + further.bias
        weight.copy_(base)
        self._search(unit, [(weight, change), *_constants(unit, shift)])

    def _norm(self, unit: NormStatistics, keep: set[fx.Node]) -> None:
        mean, var = statistics(self.calibration, unit, keep)
        norm: Any = unit.module
        steps = [
            (norm.running_mean, mean - norm.running_mean.double()),
            (norm.running_var, var - norm.running_var.double()),
        ]
        if any(not torch.equal((value + step).to(value.dtype), value) for value, step in steps):
            self._search(unit, steps)

    def _search(self, unit: Unit, steps: list[tuple[Tensor, Tensor]]) -> None:
        """Takes a step, or as much of it as does not raise the held-out error (rule 3)."""
        before = self.error
        bases = [value.clone() for value, _ in steps]
        place = min(self.calibration.new.place[goal.call] for goal in unit.goals)
        errors = []
        for share in [0.5**i for i in range(_HALVINGS + 1)]:
            for base, (value, step) in zip(bases, steps, strict=True):
                value.copy_(base.double() + share * step)
            errors.append(self.calibration.error(place))
            if errors[-1] <= before:
                self.error = errors[-1]
                self.taken.setdefault(unit.path, []).append((before, self.error))
                return
        for base, (value, _) in zip(bases, steps, strict=True):
            value.copy_(base)
        self.left[unit.path] = (before, errors[0], errors[-1])

    def _tell(self, started: float, ended: float) -> None:
        """Writes changes, skips and details."""
        for path, errors in self.taken.items():
            self.outcome.change(path, "held-out error", _short(errors[0][0]), _short(errors[-1][1]))
        for path, (before, first, last) in self.left.items():
            if path not in self.taken:
                self.outcome.skip(
                    path,
                    f"fitting it raises the held-out error from {before:.4g} to {first:.4g}, and "
                    f"to {last:.4g} at {0.5**_HALVINGS} of the step",
                )
        for path, why in self.starved.items():
            self.outcome.skip(path, why)
        fitted, held = self.calibration.examples
        self.outcome.details["held_out"] = {"before": _short(started), "after": _short(ended)}
        self.outcome.details["examples"] = {"fitted": fitted, "held_out": held}


def _constants(unit: Target, shift: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    """Says what holds the constant, and by how much it changes (rule 1)."""
    bias = unit.layer.module.bias
    if shift is None:
        return []
    if bias is not None:
        return [(bias.data, shift)]
    assert unit.shift is not None
    assert unit.shift.module.running_mean is not None
    return [(unit.shift.module.running_mean, -shift)]


def _short(error: float) -> float:
    return float(f"{error:.6g}")
