"""Fits the weights of a pruned or decomposed program to the original's activations.

Least squares in closed form: no labels, no training.

Before   y' = w' x'          x' differs from the original's x, so y' from the original's y
After    y' = (w' + D) x'    D minimises Σ ‖(w' + D) x' - y‖² + λ ‖D‖² over the data
Source   He et al. 2017, arXiv:1707.06168 (channel pruning, section 3.2: asymmetric reconstruction;
         3.3: sums of branches); Luo et al. 2017, arXiv:1707.06342 (ThiNet); Zhang et al. 2015,
         arXiv:1505.06798 (section 3.2: nonlinear responses).
"""

from dataclasses import dataclass
from typing import ClassVar

from gfx.compression.refit import (
    FitRefusal,
    FitSettings,
    Steps,
    Target,
    Unit,
    fit_program,
    units,
)
from gfx.contract import Context, Keeps, Outcome, Pass, Skip
from gfx.errors import MOST, PreconditionError, check_range, prefixed
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate

__all__ = ["Refit"]


@dataclass(frozen=True)
class Refit(Pass):
    """Solves for the weights of each layer, from input to output, that reproduce the original.

    A layer reads what the program computes with all layers before it refitted. Its target is what
    the original computes there, at the channels that are left.

    1. Convolutions, transposed convolutions and linear layers are solved for. A layer whose output
       is only added to another value, directly or after norms, is fitted to that sum. A layer
       without bias stays without; a BatchNorm behind it takes up the constant.
    2. Running statistics of a BatchNorm change as those of the data do from original to program.
    3. After each step the output's error on held-out data is measured. If it grew, the step is
       halved, up to three times; if it still grows, the layer is left as it was: a Skip.
    4. A layer that already reproduces the original is left alone.
    5. A layer before a ReLU, directly or after a norm, is fitted again `relu` times to what the
       ReLU passes: values below zero in both original and program may differ. A layer that is
       called twice is not: its second call would read other values each time.
    6. A layer for which the data has fewer positions than it has unknowns is left with a Skip
       (a squeeze-excitation, a style, the inner layers of a U-Net). If such layers do more than a
       quarter of the work, the data is too small: an error that says how much is needed.

    Data: any form of inputs that `gfx.apply` takes, read as a stream; labels are dropped.
    Shapes: all stay.
    Units: the error is ‖output - original's‖ / ‖original's‖, averaged over held-out batches.
    Raises: PreconditionError if the data is too small or activations are not finite.

    Example:
        >>> import gfx, torch
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
    needs_original: ClassVar[bool] = True  # the layers are fitted to its activations

    targets: tuple[str, ...] = ("*",)  # globs over the module paths of layers and norms
    ridge: float = 1e-4  # times the mean diagonal of the Gram matrix; 0 ≤ ridge
    examples: int | None = None  # read at most; None: as many as most of the layers need
    positions: float = 30.0  # of a layer's output that are sampled, times its unknowns
    held_out: float = 0.25  # share of the data that the error is measured on, 0 < held_out < 1
    rounds: int = 1  # passes over all layers
    relu: int = 4  # times that a layer is fitted again to what the ReLU behind it passes
    norms: bool = True  # whether running statistics are estimated again
    memory: float = 2.0  # GiB of activations that are held; the rest is computed again
    seed: int | None = None  # of the positions drawn and the order of the data; None: the recipe's

    def __post_init__(self) -> None:
        with prefixed(self.name):
            check_range("ridge", self.ridge, at_least=0, below=float("inf"))
            check_range("held_out", self.held_out, above=0, below=1)
            if self.examples is not None:
                check_range("examples", self.examples, at_least=2)
            check_range("relu", self.relu, at_least=0)
            check_range("rounds", self.rounds, at_least=1, at_most=MOST)
            check_range("positions", self.positions, at_least=1)
            check_range("memory", self.memory, above=0)

    @property
    def needs_data(self) -> bool:
        """Activations of the original are reproduced, so there must be data."""
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
        outcome = Outcome()
        propagate(program)
        propagate(context.original)
        chosen = self._units(program, context.original, outcome)
        settings = self._settings(context.of(self).seed)
        result = fit_program(program, context.original, context.data, chosen, settings)
        for path, errors in result.fitted.items():
            outcome.change(path, "held-out error", *map(_six_digits, errors))
        outcome.skips += [Skip(path, why) for path, why in result.left.items()]
        before, after = map(_six_digits, result.error)
        fitted, held_out = result.examples
        outcome.details["held_out"] = {"before": before, "after": after}
        outcome.details["examples"] = {"fitted": fitted, "held_out": held_out}
        return outcome

    def _units(self, program: Program, original: Program, outcome: Outcome) -> list[Unit]:
        """Lists the layers and norms to fit, and skips the others with the reason."""
        found = []
        for unit in units(program, original, Steps(program)):
            if not self.named(unit.path):
                outcome.skip(unit.path, "targets does not name it")
            elif isinstance(unit, FitRefusal):
                outcome.skip(unit.path, unit.why)
            elif self.norms or isinstance(unit, Target):
                found.append(unit)
        return found

    def _settings(self, seed: int) -> FitSettings:
        return FitSettings(
            ridge=self.ridge,
            positions=self.positions,
            examples=self.examples,
            held_out=self.held_out,
            rounds=self.rounds,
            relu=self.relu,
            memory=self.memory * 2**30,
            seed=seed,
        )


def _six_digits(error: float) -> float:
    return float(f"{error:.6g}")
