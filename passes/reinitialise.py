"""Draws the weights of layers anew: of the model only the structure stays.

Before   a generator with its trained weights
After    the same layers with weights as new ones have
Source   Li et al. 2021, arXiv:2110.14439 (GCC): a pruned generator is trained from new weights; Li
         et al. 2020, arXiv:2003.08936 (GAN Compression), table 3: rows without pruned weights.
"""

import re
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from gfx.contract import Context, Keeps, Outcome, Pass
from gfx.errors import InputError, PreconditionError, check_range
from gfx.ir.computed_tensors import computed_tensors
from gfx.ir.fresh_weights import draw_anew, holders
from gfx.ir.parametrizations import folding_in
from gfx.ir.program import Program
from gfx.ir.random_state import keep_random_state

__all__ = ["Reinitialise"]


@dataclass(frozen=True)
class Reinitialise(Pass):
    """Draws weights anew, from the seed; running statistics begin anew too.

    1. Each layer draws as it does when it is made. With `std`, weights are normal around 0, those
       of norms around 1, and biases are 0, as DCGAN and pix2pix begin.
    2. A layer that does not say how it draws, or computes its weight from others, is refused. One
       that `targets` does not name stays as it is.
    3. A tensor that two layers share is drawn once for each, and the last holds.

    Shapes: every tensor keeps its own.
    Cost: none.

    Example:
        >>> import gfx, torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3))
        >>> recipe = {"passes": [{"reinitialise": {"std": 0.02}}]}
        >>> new = gfx.apply(recipe, model, torch.zeros(1, 3, 8, 8))
        >>> new.get_submodule("0").bias.abs().max().item()
        0.0
    """

    name: ClassVar[str] = "reinitialise"
    keeps: ClassVar[Keeps] = Keeps.SIGNATURE

    targets: tuple[str, ...] = ("*",)  # globs over the paths of layers
    std: float | None = None  # of new weights; None: as each layer draws them
    seed: int | None = None  # None: the recipe's

    def __post_init__(self) -> None:
        if self.std is not None:
            check_range("std", self.std, at_least=0, below=float("inf"))

    def apply(self, program: Program, context: Context) -> Outcome:
        """Draws the weights of the layers that are named."""
        outcome, refused = Outcome(), dict[str, str]()
        layers = {_layer(path) for path in holders(program.module)}
        with keep_random_state(seed=context.of(self).seed):
            for path, module in program.module.named_modules():
                if path not in layers:
                    continue
                if not self.named(path):
                    outcome.skip(path, f"not in targets {', '.join(self.targets)}")
                    continue
                before = {k: v.clone() for k, v in module.state_dict().items()}
                try:
                    draw_anew(path, module, self.std)
                except InputError as error:
                    refused[path] = str(error)
                    continue
                if isinstance(module, nn.modules.batchnorm._NormBase):
                    module.reset_running_stats()
                if all(torch.equal(before[k], v) for k, v in module.state_dict().items()):
                    outcome.skip(path, "it is what a new one is")
                else:
                    outcome.change(path, "weights drawn anew")
        if refused:
            raise PreconditionError(
                _refusal(program, refused, len(layers) > len(refused))
            )  # rule 2
        return outcome


def _layer(path: str) -> str:
    """Returns the path of the layer whose weight a parametrization computes; else the same."""
    return re.sub(r"(^|\.)parametrizations\..*", "", path)


def _refusal(program: Program, refused: dict[str, str], has_others: bool) -> str:
    """Says which layer cannot be drawn anew, and what to do about it."""
    (path, why), *more = refused.items()
    said = why + (f", as {len(more)} more" if more else "")
    if computed_tensors(program.module.get_submodule(path)):
        return f"{said}; {folding_in(program, path)}"
    return f"{said}; name the others in `targets`" if has_others else said
