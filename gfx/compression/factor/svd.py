"""Computes the best approximation of a kernel in each form, by the Frobenius norm of the error.

Shapes: a kernel is (groups, outputs, inputs, height, width), in float64; the result is one kernel
for each part. The basis side of a factorisation is orthonormal, the last part holds the scale.
Full rank is exact, and the error never rises with the rank.
"""

import torch
from torch import Tensor

__all__ = ["approximate", "halves", "leading"]

_ROUNDS = 2  # of higher-order orthogonal iteration
_REFERENCES = (0.25, 0.5)  # shares of the full ranks at which it is done


def approximate(kind: str, kernel: Tensor, ranks: list[int]) -> list[Tensor]:
    """Returns a kernel for each part of a form."""
    if kind == "depthwise_separable":
        return depthwise_separable(kernel, ranks[0])
    if kind == "spatial":
        return spatial(kernel, ranks[0])
    if kind == "low_rank":
        return low_rank(kernel, ranks[0])
    return tucker(kernel, ranks[0], ranks[1])


def depthwise_separable(kernel: Tensor, rank: int) -> list[Tensor]:
    """Separates each input channel's filters: its matrix (outputs, area) gets a rank.

    Shapes: (groups · inputs, rank, 1, height, width) and (groups, outputs, inputs · rank, 1, 1).
    """
    groups, outputs, inputs, height, width = kernel.shape
    matrices = kernel.transpose(1, 2).reshape(groups * inputs, outputs, height * width)
    mixing, filters = halves(matrices, rank)
    points = mixing.reshape(groups, inputs, outputs, rank).permute(0, 2, 1, 3)
    return [
        filters.reshape(groups * inputs, rank, 1, height, width),
        points.reshape(groups, outputs, inputs * rank, 1, 1),
    ]


def spatial(kernel: Tensor, rank: int) -> list[Tensor]:
    """Separates the two directions: the matrix (outputs · width, inputs · height) gets a rank."""
    groups, outputs, inputs, height, width = kernel.shape
    matrices = kernel.permute(0, 1, 4, 2, 3).reshape(groups, outputs * width, inputs * height)
    rows, columns = halves(matrices, rank)
    across = rows.reshape(groups, outputs, width, rank).transpose(2, 3)
    return [columns.reshape(groups, rank, inputs, height, 1), across.unsqueeze(3)]


def low_rank(kernel: Tensor, rank: int) -> list[Tensor]:
    """Reduces the output channels: the matrix (outputs, inputs · area) gets a rank."""
    groups, outputs, inputs, height, width = kernel.shape
    mixing, basis = halves(kernel.reshape(groups, outputs, inputs * height * width), rank)
    return [basis.reshape(groups, rank, inputs, height, width), mixing[..., None, None]]


def tucker(kernel: Tensor, before: int, after: int) -> list[Tensor]:
    """Reduces input and output channels (Tucker-2), the better of a few pairs of bases.

    The bases are the same for all ranks, and a rank takes their first columns; so the error falls
    with the rank, which iterating at each rank anew does not guarantee.
    Source: De Lathauwer et al. 2000 (HOSVD, HOOI); Kim et al. 2016, arXiv:1511.06530.
    """
    found = [_projected(kernel, *bases, before, after) for bases in _bases(kernel)]
    energy = torch.stack([core.square().sum(dim=(1, 2, 3, 4)) for _, core, _ in found])
    best = energy.argmax(0).tolist()
    reduce, core, expand = (
        torch.stack([found[which][part][group] for group, which in enumerate(best)])
        for part in range(3)
    )
    return [reduce[..., None, None], core, expand[..., None, None]]


def halves(matrices: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Returns the factors of the best approximations of matrices, (…, m, r) and (…, r, n).

    The rows of the second have length 1, unless they are zero.
    """
    rows, columns = matrices.shape[-2:]
    if rows < columns:  # the smaller Gram matrix keeps full rank exact
        left = leading(matrices @ matrices.mT, rank)
        right = left.mT @ matrices
        lengths = right.norm(dim=-1, keepdim=True)
        lengths = torch.where(lengths > 0, lengths, 1)
        return left * lengths.mT, right / lengths
    right = leading(matrices.mT @ matrices, rank)
    return matrices @ right, right.mT


def leading(gram: Tensor, rank: int) -> Tensor:
    """Returns the leading eigenvectors of symmetric matrices, as columns, largest first."""
    vectors: Tensor = torch.linalg.eigh(gram).eigenvectors
    return vectors[..., -rank:].flip(-1)


def _bases(kernel: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Returns pairs of full orthonormal bases, (groups, inputs, inputs) and of the outputs."""
    _, outputs, inputs, height, width = kernel.shape
    whole = [(_inputs_of(kernel), _outputs_of(kernel))]
    for share in _REFERENCES:
        before, after = max(1, round(inputs * share)), max(1, round(outputs * share))
        if before > after * height * width or after > before * height * width:
            continue
        ins, outs = whole[0]
        for _ in range(_ROUNDS):
            ins = _inputs_of(torch.einsum("goiyx,gor->griyx", kernel, outs[..., :after]))
            outs = _outputs_of(torch.einsum("goiyx,gir->goryx", kernel, ins[..., :before]))
        whole.append((ins, outs))
    return whole


def _inputs_of(kernel: Tensor) -> Tensor:
    rows = kernel.transpose(1, 2).flatten(2)
    return leading(rows @ rows.mT, rows.shape[1])


def _outputs_of(kernel: Tensor) -> Tensor:
    rows = kernel.flatten(2)
    return leading(rows @ rows.mT, rows.shape[1])


def _projected(
    kernel: Tensor, ins: Tensor, outs: Tensor, before: int, after: int
) -> tuple[Tensor, Tensor, Tensor]:
    ins, outs = ins[..., :before], outs[..., :after]
    core = torch.einsum("goiyx,gor,gis->grsyx", kernel, outs, ins)
    return ins.mT, core, outs
