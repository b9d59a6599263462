"""Normal equations of a layer, added up batch by batch, and their ridge solution.

The unknown is the change of the weights, D, and of the bias, d: with rows x of what the outputs
read and residuals r = wanted - present,

    min_{D, d}  Σ ‖x D + d - r‖² + λ ‖D‖²,      λ = ridge · mean diagonal of Σ x xᵀ

so that a layer that already gives what is wanted stays as it is, and what the data does not tell
keeps its value. The blocks of a transposed convolution share their bias alone: with A = Σ x xᵀ + λ,
a = Σ x, B = Σ x rᵀ for each block, D = A⁻¹ (B - a d) and

    d Σ (n - aᵀ A⁻¹ a) = Σ (c - aᵀ A⁻¹ B)       n positions, c = Σ r

Source: He et al. 2017, arXiv:1707.06168, section 3.2 (asymmetric reconstruction).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gfx.compression.refit.unfold import FitLayer

__all__ = ["NormalEquations", "Solution"]

_CHUNK = 2**25  # numbers in the rows that are held at once
_COLUMNS = 512  # of the Gram matrix at a time: what lies below its diagonal is not computed


@dataclass(frozen=True)
class Solution:
    """The change that least squares asks for."""

    weight: Tensor  # in the layout of the layer's weight, float64
    bias: Tensor | None  # (outputs,)


class NormalEquations:
    """Adds up A, a, B, c and n in float64, on the layer's device."""

    def __init__(self, layer: FitLayer, bias: bool) -> None:
        self.layer = layer
        self.bias = bias  # whether there is a constant to solve for
        device, each = layer.module.weight.device, layer.outputs // layer.groups
        self.grams: list[Tensor] = []  # A, above its diagonal
        self.sums: list[Tensor] = []
        self.rights: list[Tensor] = []
        self.totals: list[Tensor] = []
        for block in layer.blocks:
            size = layer.unknowns(block)
            self.grams.append(_zeros(device, layer.groups, size, size))
            self.sums.append(_zeros(device, layer.groups, size, 1))
            self.rights.append(_zeros(device, layer.groups, size, each))
            self.totals.append(_zeros(device, layer.groups, 1, each))
        self.counts = [0] * len(layer.blocks)
        self.factors: list[Tensor] = []  # of A + λ, once it was solved

    def add(self, x: Tensor, residual: Tensor, chosen: list[Tensor]) -> None:
        """Adds the chosen positions of one call; x is the layer's input, `residual` of its output.

        `chosen` has the positions of each block.
        """
        layer = self.layer
        x, r = layer.padded(x), layer.outputs_of(residual)
        for number, block in enumerate(layer.blocks):
            step = max(_CHUNK // max(layer.unknowns(block) * layer.groups, 1), 1)
            for part in torch.split(chosen[number], step):
                rows = layer.rows(x, block, tuple(r.shape[:-1]), part)
                self._add(number, rows.inputs.double(), layer.taken(r, rows).double())

    def _add(self, number: int, x: Tensor, r: Tensor) -> None:
        self.rights[number] += x.mT @ r
        self.totals[number] += r.sum(1, keepdim=True)
        if self.factors:
            return  # the same rows once more
        gram = self.grams[number]
        for start in range(0, x.shape[2], _COLUMNS):
            left = x[:, :, start : start + _COLUMNS]
            gram[:, start : start + _COLUMNS, start:] += left.mT @ x[:, :, start:]
        self.sums[number] += x.sum(1)[:, :, None]
        self.counts[number] += x.shape[1]

    def again(self) -> None:
        """Forgets the residuals: the same rows come again, with others."""
        for part in (*self.rights, *self.totals):
            part.zero_()

    def finite(self) -> bool:
        """Whether all that was added up is finite."""
        parts = [*self.rights, *self.totals, *(g.diagonal(dim1=1, dim2=2) for g in self.grams)]
        return all(bool(torch.isfinite(part).all()) for part in parts)

    def solve(self, ridge: float) -> Solution:
        """Solves for the change of the weights."""
        solved, constants = [], []
        weight_of_bias, asked = torch.zeros_like(self.totals[0][:, :, :1]), self.totals[0] * 0
        self.factors = self.factors or [_factor(gram, ridge) for gram in self.grams]
        parts = zip(self.factors, self.sums, self.rights, self.totals, self.counts, strict=True)
        for factor, a, right, total, count in parts:
            both = torch.cat([right, a], 2)
            both = torch.cholesky_solve(both, factor) if len(a[0]) else both
            inverse_right, inverse_a = both[:, :, :-1], both[:, :, -1:]
            solved.append(inverse_right)
            constants.append(inverse_a)
            weight_of_bias = weight_of_bias + count * (1 + ridge) - a.mT @ inverse_a
            asked = asked + total - a.mT @ inverse_right
        if not self.bias:
            return Solution(self.layer.weight(solved), None)
        bias = asked / weight_of_bias  # (groups, 1, outputs / groups)
        solved = [x - a @ bias for x, a in zip(solved, constants, strict=True)]
        return Solution(self.layer.weight(solved), bias.reshape(-1))


def _zeros(device: torch.device, *shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64, device=device)


def _factor(gram: Tensor, ridge: float) -> Tensor:
    """Factorises A + λ for each group, of which A is given above its diagonal."""
    size = gram.shape[1]
    whole = gram.triu() + gram.triu(1).mT
    mean = whole.diagonal(dim1=1, dim2=2).sum(1) / max(size, 1)
    scale = torch.where(mean > 0, mean, torch.ones_like(mean))  # a group that reads only zeros
    eye = torch.eye(size, dtype=gram.dtype, device=gram.device)
    factor: Tensor
    while True:
        factor, failed = torch.linalg.cholesky_ex(whole + (ridge * scale)[:, None, None] * eye)
        if not bool(failed.any()):
            return factor
        ridge = max(10 * ridge, 1e-15)  # rounding made it indefinite
