"""Distances between sets of features follow their definitions."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from gfx.metrics.set_distances import frechet, kernel_distance, kernel_spread, precision


def sample(count: int, width: int, seed: int, rank: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, rank or width, generator=generator, dtype=torch.double)
    if rank is not None:
        drawn = drawn @ torch.randn(rank, width, generator=generator, dtype=torch.double)
    return drawn * (1 + seed) + seed / 3


def by_definition(ours: Tensor, theirs: Tensor) -> float:
    """Takes the root of S1^1/2 S2 S1^1/2 from eigenvalues, which are never below 0."""
    first, second = np.cov(ours.T.numpy()), np.cov(theirs.T.numpy())
    first, second = np.atleast_2d(first), np.atleast_2d(second)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    gap = ((ours.mean(0) - theirs.mean(0)) ** 2).sum().item()
    return gap + float(np.trace(first) + np.trace(second) - 2 * cross)


@pytest.mark.parametrize(
    ("n", "m", "width", "rank"),
    [
        (40, 60, 5, None),  # more images than axes, both
        (10, 60, 20, None),  # fewer on one side
        (60, 10, 20, None),
        (6, 7, 20, None),  # fewer on both
        (50, 50, 12, 4),  # covariances without full rank
        (2, 2, 3, None),
        (30, 20, 1, None),
    ],
)
def test_the_frechet_distance_is_that_of_the_definition(
    n: int, m: int, width: int, rank: int | None
) -> None:
    ours, theirs = sample(n, width, 1, rank), sample(m, width, 2, rank)
    expected = by_definition(ours, theirs)
    # the definition takes roots of what rounding leaves of 0: the looser side
    assert frechet(ours, theirs) == pytest.approx(expected, rel=1e-6)
    assert frechet(theirs, ours) == pytest.approx(frechet(ours, theirs), rel=1e-10)


@pytest.mark.parametrize(("n", "width"), [(40, 5), (5, 40), (40, 40)])
def test_a_sample_is_at_no_distance_from_itself(n: int, width: int) -> None:
    ours = sample(n, width, 1)
    assert frechet(ours, ours) == pytest.approx(0, abs=1e-9 * ours.square().sum().item())
    assert precision(ours, ours) == 1


def test_the_frechet_distance_of_moved_samples_is_the_square_of_the_way() -> None:
    ours = sample(30, 4, 0)
    assert frechet(ours, ours + 3) == pytest.approx(36, rel=1e-9)


def test_the_frechet_distance_falls_with_the_count_and_the_kernel_distance_does_not() -> None:
    def same(count: int, measure: Callable[[Tensor, Tensor], float]) -> float:
        generator = torch.Generator().manual_seed(3)
        pairs = [
            tuple(torch.randn(2, count, 16, generator=generator, dtype=torch.double))
            for _ in range(20)
        ]
        return sum(measure(*pair) for pair in pairs) / len(pairs)

    few, many = same(20, frechet), same(200, frechet)
    assert 5 < few / many < 15
    assert abs(same(20, kernel_distance)) < 0.1


def test_the_kernel_distance_is_that_of_the_definition() -> None:
    ours, theirs = sample(7, 3, 1), sample(5, 3, 2)

    def mean(a: Tensor, b: Tensor, *, same: bool) -> float:
        found = [
            (float(x @ y) / 3 + 1) ** 3
            for i, x in enumerate(a)
            for j, y in enumerate(b)
            if not (same and i == j)
        ]
        return sum(found) / len(found)

    expected = mean(ours, ours, same=True) + mean(theirs, theirs, same=True)
    expected -= 2 * mean(ours, theirs, same=False)
    assert kernel_distance(ours, theirs) == pytest.approx(expected, rel=1e-12)


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = sample(25, 3, 1), sample(17, 3, 2)
    before = [kernel_distance(ours, theirs), precision(ours, theirs)]
    monkeypatch.setattr("gfx.metrics.set_distances._ROWS", 4)
    assert [kernel_distance(ours, theirs), precision(ours, theirs)] == pytest.approx(before)


def test_the_spread_of_the_kernel_distance_is_the_same_each_time() -> None:
    ours, theirs = sample(25, 3, 1), sample(17, 3, 2)
    state = torch.get_rng_state()
    first = kernel_spread(ours, theirs, seed=1)
    assert first > 0
    assert kernel_spread(ours, theirs, seed=1) == first
    assert kernel_spread(ours, theirs, seed=2) != first
    assert torch.equal(torch.get_rng_state(), state)


def test_precision_counts_points_within_the_third_neighbour() -> None:
    # radii of the points 0, 1, 2, 3, 10 to the third neighbour: 3, 2, 2, 3, 9
    line = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0]])
    fakes = torch.tensor([[-3.0], [-3.1], [19.0], [19.1], [1.5]])
    assert precision(fakes, line) == pytest.approx(3 / 5)


def test_modes_that_are_missing_lower_recall_and_not_precision() -> None:
    left, right = sample(30, 2, 0), sample(30, 2, 0) + 100
    reals, fakes = torch.cat([left, right]), left + 1e-3
    assert precision(fakes, reals) > 0.9
    assert 0.4 < precision(reals, fakes) < 0.6
