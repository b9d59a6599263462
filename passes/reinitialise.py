"""Draws the weights of layers anew: of the model only the structure stays.

Before   a generator with its trained weights
After    the same layers with weights as new ones have
Source   Li et al. 2021, arXiv:2110.14439 (GCC): a pruned generator is trained from new weights; Li
         et al. 2020, arXiv:2003.08936 (GAN Compression), table 3: rows without pruned weights.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from gfx.contract import Context, Keeps, Outcome, Pass
from gfx.errors import InputError, PreconditionError, check_range
from gfx.ir.fresh_weights import draw_anew, holders
from gfx.ir.program import Program
from gfx.ir.random_state import keep_random_state

__all__ = ["Reinitialise"]


@dataclass(frozen=True)
class Reinitialise(Pass):
    """Draws weights anew, from the seed; running statistics begin anew too.

    1. Each layer draws as it does when it is made. With `std`, weights are normal around 0, those
       of norms around 1, and biases are 0, as DCGAN and pix2pix begin.
    2. A layer that does not say how it draws is refused: name the others in `targets`.
    3. A tensor that two layers share is drawn once for each, and the last holds.

    Shapes: every tensor keeps its own.
    Cost: none.

    Example:
        >>> import gfx, torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3))
        >>> recipe = {"passes": [{"reinitialise": {"std": 0.02}}]}
        >>> new = gfx.apply(recipe, model, torch.zeros(1, 3, 8, 8))
        >>> float(new.get_submodule("0").bias.abs().max())
        0.0
    """

    name: ClassVar[str] = "reinitialise"
    keeps: ClassVar[Keeps] = Keeps.SIGNATURE

    targets: tuple[str, ...] = ("*",)  # globs over the paths of modules that own parameters
    std: float | None = None  # of new weights; None: as each layer draws them
    seed: int | None = None  # None: the recipe's

    def __post_init__(self) -> None:
        if self.std is not None:
            check_range("std", self.std, at_least=0, below=float("inf"))

    def apply(self, program: Program, context: Context) -> Outcome:
        """Draws the weights of the layers that are named."""
        outcome = Outcome()
        owners = holders(program.module)
        with keep_random_state(seed=context.of(self).seed):
            for path, module in owners.items():
                if not self.named(path):
                    outcome.skip(path, f"not in targets {', '.join(self.targets)}")
                    continue
                try:
                    draw_anew(path, module, self.std)
                except InputError as error:  # rule 2
                    raise PreconditionError(
                        f"{error}; name the layers to draw anew in `targets`"
                    ) from error
                outcome.change(path, "weights drawn anew")
                if isinstance(module, nn.modules.batchnorm._NormBase):
                    module.reset_running_stats()
        return outcome
