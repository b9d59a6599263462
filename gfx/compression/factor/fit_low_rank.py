"""Fits the parts of a spatial, Tucker or low-rank form of one group to inputs and targets.

1. Whitened: the approximation of the weights, with the error weighed by the covariance of what
   the first part reads (for a low-rank form: by the targets, which is optimal).
2. Mixed: the later parts in turn, each by least squares given the others.
3. A round: the first part too, by a few steps of conjugate gradients; then as in 2. Layers with
   many inputs have no rounds.

No step makes the error on these rows larger.

Shapes: patches (rows, inputs, area), targets (rows, outputs), kernel (outputs, inputs, height,
width); a part's kernel (1, outputs, inputs, height, width).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from gfx.compression.factor.least_squares import conjugate, regressed, roots, truncated, unit
from gfx.compression.factor.svd import leading

__all__ = ["low_rank", "spatial", "tucker"]

Steps = Iterator[tuple[str, list[Tensor]]]

_WIDEST = 4096  # inputs · area; above, a Gram matrix would take more than 128 MiB: no rounds


def low_rank(patches: Tensor, targets: Tensor, kernel: Tensor, rank: int) -> Steps:
    """Yields basis and mix: the principal components of the targets."""
    own = patches.flatten(1) @ kernel.flatten(1).mT
    onto = regressed(own, targets - own) + torch.eye(len(kernel)).to(own)
    given = own @ onto.mT
    mix = leading(given.mT @ given, rank)
    basis = torch.einsum("or,op,piyx->riyx", mix, onto, kernel)
    yield "whitened", [basis[None], mix[None, ..., None, None]]


def spatial(patches: Tensor, targets: Tensor, kernel: Tensor, rank: int, rounds: int) -> Steps:
    """Yields the vertical and the horizontal part."""
    outputs, inputs, height, width = kernel.shape
    # what the vertical part reads, (rows, width, inputs · height)
    reads = patches.reshape(-1, inputs, height, width).permute(0, 3, 1, 2).flatten(2).contiguous()
    matrix = kernel.permute(0, 3, 1, 2).reshape(outputs * width, inputs * height)
    across, first = _first(reads, matrix, rank)
    across = across.reshape(outputs, width, rank)

    def parts() -> list[Tensor]:
        vertical = first.reshape(rank, inputs, height, 1)
        return [vertical[None], across.transpose(1, 2).unsqueeze(2)[None]]

    yield "whitened", parts()
    rounds, square = _square(reads, rounds)
    for name in _names(rounds):
        if name != "mixed":
            change = conjugate(square, across, _slope(reads, first, across, targets))
            flat, first = unit(across.flatten(0, 1), first + change)
            across = flat.reshape(across.shape)
        features = (reads @ first.mT).flatten(1)
        left = targets - features @ across.flatten(1).mT
        across = across + regressed(features, left).reshape(across.shape)
        yield name, parts()


def tucker(
    patches: Tensor,
    targets: Tensor,
    kernel: Tensor,
    ranks: tuple[int, int],
    rounds: int,
) -> Steps:
    """Yields the reducing, the core and the expanding part."""
    outputs, inputs, height, width = kernel.shape
    before, after = ranks
    reads = patches.transpose(1, 2).contiguous()  # (rows, area, inputs)
    matrix = kernel.flatten(2).transpose(1, 2).reshape(-1, inputs)
    dense, first = _first(reads, matrix, before)
    dense = dense.reshape(outputs, -1, before)
    given = _out(reads, first, dense)
    expand = leading(given.mT @ given, after)
    core = torch.einsum("op,oas->pas", expand, dense)

    def parts() -> list[Tensor]:
        middle = core.transpose(1, 2).reshape(after, before, height, width)
        return [first[None, ..., None, None], middle[None], expand[None, ..., None, None]]

    yield "whitened", parts()
    rounds, square = _square(reads, rounds)
    for name in _names(rounds):
        if name != "mixed":
            through = torch.einsum("op,pas->oas", expand, core)
            change = conjugate(square, through, _slope(reads, first, through, targets))
            flat, first = unit(core.flatten(0, 1), first + change)
            core = flat.reshape(core.shape)
        features = (reads @ first.mT).flatten(1)
        left = targets - features @ core.flatten(1).mT @ expand.mT
        onto = left @ torch.linalg.pinv(expand).mT
        core = core + regressed(features, onto).reshape(core.shape)
        between = features @ core.flatten(1).mT
        expand = expand + regressed(between, targets - between @ expand.mT)
        yield name, parts()


def _names(rounds: int) -> list[str]:
    return ["mixed", *(f"round {number + 1}" for number in range(rounds))]


def _first(reads: Tensor, matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Returns the factors of a matrix, weighed by the covariance of what the second one reads."""
    rows = reads.flatten(0, 1)
    return unit(*truncated(matrix, *roots(rows.mT @ rows), rank))


def _square(reads: Tensor, rounds: int) -> tuple[int, Tensor]:
    """Returns the Gram matrix of all that is read, (taps, n, taps, n), if it is needed and fits."""
    taps, size = reads.shape[1:]
    if rounds == 0 or taps * size > _WIDEST:
        return 0, reads.new_zeros(0)
    columns = reads.flatten(1)
    return rounds, (columns.mT @ columns).reshape(taps, size, taps, size)


def _slope(reads: Tensor, first: Tensor, rest: Tensor, targets: Tensor) -> Tensor:
    """Returns the residual of the targets times the inputs, (outputs, taps, n)."""
    left = targets - _out(reads, first, rest)
    return (left.mT @ reads.flatten(1)).reshape(-1, *reads.shape[1:])


def _out(reads: Tensor, first: Tensor, rest: Tensor) -> Tensor:
    """Returns the output, (rows, outputs), of `rest` (outputs, taps, rank) after `first`."""
    return (reads @ first.mT).flatten(1) @ rest.flatten(1).mT
