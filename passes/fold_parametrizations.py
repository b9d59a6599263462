"""Folds spectral norm, weight norm and every other parametrization into plain weights.

Before   conv with weight_orig, weight_u, weight_v (or weight_g, weight_v; or parametrizations)
After    conv with weight, which has its value of eval mode
Source   Miyato et al. 2018, arXiv:1802.05957, section 3.2 (the norm is constant at inference);
         Salimans and Kingma 2016, arXiv:1602.07868, equation 2.
"""

from dataclasses import dataclass
from typing import ClassVar

from gfx.contract import Context, Keeps, Outcome, Pass
from gfx.ir.computed_tensors import computed_tensors, fold_tensors, unknown_hooks
from gfx.ir.parametrizations import ParametrizationUses, fold_chain
from gfx.ir.program import Program

__all__ = ["FoldParametrizations"]


@dataclass(frozen=True)
class FoldParametrizations(Pass):
    """Folds parametrized tensors into plain ones, under the same name.

    1. The value is that of eval mode: no power iteration, no noise.
    2. A module is skipped if another place uses one of the original tensors: the two would no
       longer be the same.
    3. A hook that gfx does not know is skipped: what it computes is not known.
    4. A module inside an opaque leaf is skipped: its code may read the original tensors.
    5. Where the graph itself computes a parametrization, its result is folded; if the graph uses
       the originals or values on the way too, it is skipped.

    Shapes: every tensor keeps its own; `requires_grad` is that of the originals.
    Cost: no layer costs more to run; u, v, g and the like are gone.

    Example:
        >>> import gfx, torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 2)))
        >>> plain = gfx.apply({"passes": ["fold_parametrizations"]}, model, torch.zeros(1, 4))
        >>> [name for name, _ in plain.named_parameters()]
        ['0.weight', '0.bias']
    """

    name: ClassVar[str] = "fold_parametrizations"
    keeps: ClassVar[Keeps] = Keeps.VALUES

    targets: tuple[str, ...] = ("*",)  # globs over the paths of the modules that own the tensors

    def apply(self, program: Program, context: Context) -> Outcome:
        """Folds every tensor that the rules allow."""
        outcome = Outcome()
        note = "; it no longer acts in training" if program.training else ""
        uses = ParametrizationUses(program)
        for path, module in list(program.module.named_modules()):
            for hook in unknown_hooks(module):
                outcome.skip(path, f"gfx does not know how to fold its pre-hook {hook}")  # rule 3
            computed = computed_tensors(module)
            if not computed:
                continue
            why = self._unnamed(path) or uses.obstacle(path, computed)  # rules 2, 4, 5
            if why:
                outcome.skip(path, why)
                continue
            fold_tensors(module)  # rule 1
            for name, tensor in computed.items():
                uses.read_folded(path, name)
                outcome.change(path, f"{name}: {tensor.kind} folded into a plain tensor{note}")
        for chain in uses.chains.values():  # rule 5
            why = self._unnamed(chain.owner)
            if why:
                outcome.skip(chain.path, why)
            elif not fold_chain(program, chain):
                outcome.skip(chain.path, "the graph uses the parts of its parametrization")
            else:
                outcome.change(chain.path, f"parametrization folded into a plain tensor{note}")
        program.recompile()
        return outcome

    def _unnamed(self, path: str) -> str:
        """Says that `targets` does not name a module; "" if it does."""
        return "" if self.named(path) else f"not in targets {', '.join(self.targets)}"
