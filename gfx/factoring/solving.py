"""Least squares in float64: the two steps that fits to data are made of."""

import torch
from torch import Tensor

from gfx.factoring.weights import leading

__all__ = ["conjugate", "regressed", "ridged", "roots", "truncated", "unit"]

_RIDGE = 1e-9  # share of the mean square, so that there is an inverse


def regressed(features: Tensor, errors: Tensor) -> Tensor:
    """Returns the (outputs, features) that, times the features, come nearest to the errors.

    Shapes: features (rows, n), errors (rows, outputs).
    """
    factor = torch.linalg.cholesky(ridged(features.mT @ features))
    return torch.cholesky_solve(features.mT @ errors, factor).mT


def conjugate(reads: Tensor, rest: Tensor, errors: Tensor, steps: int = 8) -> Tensor:
    """Returns a change of a first part, (rank, n), that makes errors small given the later parts.

    Preconditioned conjugate gradients on the normal equations; each step lowers the error.

    Shapes: reads (rows, taps, n), rest (outputs, taps, rank), errors (rows, outputs).
    """
    columns, after = reads.flatten(0, 1), rest.flatten(1)
    square, weights = columns.mT @ columns, rest.flatten(0, 1)
    right = torch.linalg.cholesky(ridged(square))
    left = torch.linalg.cholesky(ridged(weights.mT @ weights))

    def gradient(value: Tensor) -> Tensor:
        through = (value @ after).reshape(len(columns), -1)
        return through.mT @ columns

    def nearer(value: Tensor) -> Tensor:
        return torch.cholesky_solve(torch.cholesky_solve(value, left).mT, right).mT

    change = reads.new_zeros(rest.shape[2], reads.shape[2])
    residual = gradient(errors)
    direction = moved = nearer(residual)
    slope = (residual * moved).sum()
    for _ in range(steps):
        out = (reads @ direction.mT).flatten(1) @ after.mT
        curve = out.square().sum()
        if not bool(curve > 0):
            break
        change = change + direction * (slope / curve)
        residual = residual - gradient(out) * (slope / curve)
        moved = nearer(residual)
        before, slope = slope, (residual * moved).sum()
        direction = moved + direction * (slope / before)
    return change


def roots(squares: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the square roots of Gram matrices, (…, m, m), and the inverses of these."""
    values, vectors = torch.linalg.eigh(ridged(squares))
    root = values.clamp_min(1e-300).sqrt().unsqueeze(-2)
    return (vectors * root) @ vectors.mT, (vectors / root) @ vectors.mT


def truncated(matrices: Tensor, root: Tensor, inverse: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Returns factors (…, m, r) and (…, r, n) of matrices, best where `root` weighs what is lost.

    The error that is least is ‖(matrix - left · right) · root‖ (Frobenius).
    """
    weighed = matrices @ root
    vectors = leading(weighed.mT @ weighed, rank)
    return weighed @ vectors, vectors.mT @ inverse


def unit(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Makes the rows of the second factor of length 1; the first one takes their scale."""
    lengths = right.norm(dim=-1, keepdim=True).clamp_min(1e-300)
    return left * lengths.mT, right / lengths


def ridged(squares: Tensor) -> Tensor:
    """Adds a little to the diagonals of Gram matrices."""
    diagonal = squares.diagonal(dim1=-2, dim2=-1)
    ridge = (_RIDGE * diagonal.mean(-1)).clamp_min(1e-200)[..., None, None]
    return squares + torch.eye(squares.shape[-1]).to(squares) * ridge
