"""Solves the two least-squares steps of a factorization, in float64."""

import torch
from torch import Tensor

from gfx.compression.factor.svd import leading

__all__ = ["conjugate", "regressed", "ridged", "roots", "truncated", "unit"]

_RIDGE = 1e-9  # share of the mean square, so that there is an inverse


def regressed(features: Tensor, errors: Tensor) -> Tensor:
    """Returns the (outputs, features) matrix that maps the features nearest to the errors.

    Shapes: features (rows, n), errors (rows, outputs).
    """
    factor = torch.linalg.cholesky(ridged(features.mT @ features))
    return torch.cholesky_solve(features.mT @ errors, factor).mT


def conjugate(square: Tensor, rest: Tensor, slope: Tensor, steps: int = 8) -> Tensor:
    """Returns a change of a first part, (rank, n), that makes errors small given the later parts.

    Preconditioned conjugate gradients on the normal equations; each step lowers the error.

    Shapes: square (taps, n, taps, n), the Gram matrix of what is read; rest (outputs, taps, rank);
    slope (outputs, taps, n), the errors times what is read.
    """
    taps, size = square.shape[:2]
    rank = rest.shape[2]
    weights = torch.einsum("osr,otq->rtqs", rest, rest).flatten(1)
    own = square.diagonal(dim1=0, dim2=2).sum(-1), torch.einsum("osr,osq->rq", rest, rest)
    right, left = (torch.linalg.cholesky(ridged(one)) for one in own)

    def curved(value: Tensor) -> Tensor:  # the second derivative along a change
        through = (value @ square.flatten(2)).reshape(taps, rank, taps, size)
        return weights @ through.flatten(0, 2)

    def nearer(value: Tensor) -> Tensor:
        return torch.cholesky_solve(torch.cholesky_solve(value, left).mT, right).mT

    residual = torch.einsum("osr,osj->rj", rest, slope)
    change = torch.zeros_like(residual)
    direction = moved = nearer(residual)
    now = (residual * moved).sum()
    for _ in range(steps):
        curve = curved(direction)
        bend = (curve * direction).sum()
        if not bool(bend > 0):
            break
        change = change + direction * (now / bend)
        residual = residual - curve * (now / bend)
        moved = nearer(residual)
        before, now = now, (residual * moved).sum()
        direction = moved + direction * (now / before)
    return change


def roots(squares: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the square roots of Gram matrices, (…, m, m), and their inverses."""
    values, vectors = torch.linalg.eigh(ridged(squares))
    root = values.clamp_min(1e-300).sqrt().unsqueeze(-2)
    return (vectors * root) @ vectors.mT, (vectors / root) @ vectors.mT


def truncated(matrices: Tensor, root: Tensor, inverse: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Returns factors (…, m, r) and (…, r, n) of matrices that are optimal under the weight `root`.

    They minimise ‖(matrix - left · right) · root‖ (Frobenius).
    """
    weighed = matrices @ root
    vectors = leading(weighed.mT @ weighed, rank)
    return weighed @ vectors, vectors.mT @ inverse


def unit(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Scales the rows of the second factor to length 1; the first factor takes their scale."""
    lengths = right.norm(dim=-1, keepdim=True).clamp_min(1e-300)
    return left * lengths.mT, right / lengths


def ridged(squares: Tensor) -> Tensor:
    """Adds a ridge to the diagonals of Gram matrices."""
    diagonal = squares.diagonal(dim1=-2, dim2=-1)
    ridge = (_RIDGE * diagonal.mean(-1)).clamp_min(1e-200)[..., None, None]
    return squares + torch.eye(squares.shape[-1]).to(squares) * ridge
