"""Measures distances between two sets of features: Fréchet, kernel, precision and recall.

The arithmetic is in double precision. torchmetrics has these too, but takes the Fréchet distance
from the eigenvalues of a product of covariances, which is slower, and not exact where there are
fewer images than axes.
"""

import math

import torch
from torch import Tensor

__all__ = ["frechet", "kernel_distance", "kernel_spread", "precision"]

_ROWS = 1_024  # of a matrix of distances that is held at once


def frechet(ours: Tensor, theirs: Tensor) -> float:
    """Returns the Fréchet distance of two samples, as of two normal distributions.

        ‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½)

    With centred samples X₁ᵀX₁ = (n₁ - 1) Σ₁ and so on, the trace of the root is the sum of the
    singular values of X₁ X₂ᵀ, over √((n₁ - 1)(n₂ - 1)). A sample of more images than axes is
    replaced by the triangle of its QR factors, which has the same covariance: the matrix is never
    larger than axes by axes. No covariance is formed and no root of a matrix is taken, so it is
    exact for any rank.

    The distance of two samples of one distribution is not 0: it falls about as 1/n, and grows
    with the number of axes. Values are comparable at equal counts of images alone.

    Shapes: (n, d) and (m, d), n and m at least 2.
    Source: Dowson and Landau 1982; Heusel et al. 2017, arXiv:1706.08500, equation 6.

    Example:
        >>> frechet(torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [5.0]]))
        9.0
    """
    ours, theirs = ours.double(), theirs.double()
    gap = (ours.mean(0) - theirs.mean(0)).square().sum()
    a, b = _spread_factor(ours), _spread_factor(theirs)
    cross = torch.linalg.svdvals(a @ b.T).sum()
    value = gap + a.square().sum() + b.square().sum() - 2 * cross
    return max(float(value.item()), 0.0)  # below 0 by rounding alone


def _spread_factor(sample: Tensor) -> Tensor:
    """Returns a matrix A of at most d rows with AᵀA the covariance of a sample."""
    centred = (sample - sample.mean(0)) / math.sqrt(len(sample) - 1)
    if len(centred) > centred.shape[1]:
        centred = torch.linalg.qr(centred, mode="r").R
    return centred


def kernel_distance(ours: Tensor, theirs: Tensor) -> float:
    """Returns the unbiased squared maximum mean discrepancy with the kernel (x·y / d + 1)³.

    It is 0 in the mean for two samples of one distribution, whatever their sizes, and may fall
    below 0 for one.

    Shapes: (n, d) and (m, d), n and m at least 2.
    Source: Bińkowski et al. 2018, arXiv:1801.01401, section 3, equation 4.

    Example:
        >>> kernel_distance(torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [1.0]]))
        7.0
    """
    ours, theirs = ours.double(), theirs.double()
    n, m = len(ours), len(theirs)
    within = (_kernel_sum(ours, ours) - _kernel_diagonal(ours)) / (n * (n - 1))
    within += (_kernel_sum(theirs, theirs) - _kernel_diagonal(theirs)) / (m * (m - 1))
    return within - 2 * _kernel_sum(ours, theirs) / (n * m)


def _kernel_sum(a: Tensor, b: Tensor) -> float:
    blocks = (rows @ b.T / a.shape[1] + 1 for rows in torch.split(a, _ROWS))
    return sum(block.pow(3).sum().item() for block in blocks)


def _kernel_diagonal(a: Tensor) -> float:
    return (a.square().sum(1) / a.shape[1] + 1).pow(3).sum().item()


def kernel_spread(ours: Tensor, theirs: Tensor, *, subsets: int = 20, seed: int = 0) -> float:
    """Returns the standard deviation of the kernel distance over random subsets.

    A subset has half of the smaller sample, at most 1,000 images.

    Example:
        >>> same = torch.ones(8, 2)
        >>> kernel_spread(same, same)
        0.0
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    size = max(min(1_000, len(ours) // 2, len(theirs) // 2), 2)

    def drawn(sample: Tensor) -> Tensor:
        chosen = torch.randperm(len(sample), generator=generator, device="cpu")[:size]
        return sample[chosen.to(sample.device)]

    found = [kernel_distance(drawn(ours), drawn(theirs)) for _ in range(subsets)]
    return torch.tensor(found, dtype=torch.double, device="cpu").std().item()


def precision(ours: Tensor, theirs: Tensor, *, neighbours: int = 3) -> float:
    """Returns the share of our sample that lies in the manifold of theirs.

    The manifold is the union of spheres around their points, each up to its k-th neighbour. With
    ours the fakes it is precision; with ours the real images it is recall.

    Shapes: (n, d) and (m, d), m more than the number of neighbours.
    Source: Kynkäänniemi et al. 2019, arXiv:1904.06991, section 2, equations 1 and 2.

    Example:
        >>> line = torch.arange(5.0).view(-1, 1)
        >>> precision(torch.tensor([[1.5], [100.0]]), line)
        0.5
    """
    ours, theirs = ours.double(), theirs.double()
    radii = torch.cat(
        [
            # the nearest is the point itself
            _distances(rows, theirs).kthvalue(neighbours + 1, dim=1).values
            for rows in torch.split(theirs, _ROWS)
        ]
    )
    inside = [(_distances(rows, theirs) <= radii).any(dim=1) for rows in torch.split(ours, _ROWS)]
    return torch.cat(inside).double().mean().item()


def _distances(a: Tensor, b: Tensor) -> Tensor:
    sizes = a.square().sum(1, keepdim=True) + b.square().sum(1)
    squared = sizes - 2 * a @ b.T
    # a point is at distance 0 from its copy, and not at what rounding leaves
    return torch.where(squared > 1e-12 * sizes, squared, 0.0).sqrt()
