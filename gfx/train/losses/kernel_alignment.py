"""Aligns the similarity of images within a batch between student and teacher."""

import torch
from torch import Tensor

from gfx.errors import InputError
from gfx.train.losses.base import TapLoss, described
from gfx.train.losses.checks import size

__all__ = ["KernelAlignmentLoss"]


class KernelAlignmentLoss(TapLoss):
    """Aligns the kernels of features: the products of each image of a batch with each other.

    KA(S, T) = <K_S, K_T> / (‖K_S‖ ‖K_T‖),  K = F Fᵀ (N x N, not centred),  loss -Σ_l KA

    with each image's feature as one row of F, and Frobenius products and norms. It is -1 a tap
    where the kernels are the same but for a factor; widths and sizes may differ, so that no
    adapters are needed. At batch size 1 a kernel is one number and KA is 1 whatever the features:
    that is an error.

    Shapes: (N, ...), N at least 2 and equal in both. A feature of zeros alone has KA 0.
    Raises: InputError if taps or batches differ, N is 1, or something is not finite.

    Source: Jin et al. 2021, arXiv:2103.03467 (CAT).

    Example:
        >>> student = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> teacher = torch.tensor([[1.0], [1.0]])
        >>> round(float(KernelAlignmentLoss()(student, teacher)), 4)
        -0.7071
    """

    def term(self, tap: str, student: Tensor, teacher: Tensor) -> Tensor:
        """Returns minus the alignment."""
        if student.shape[0] != teacher.shape[0]:
            raise InputError(
                f"{self.name}: {described(tap)} is {size(student)} in the student and "
                f"{size(teacher)} in the teacher; run both on the same batch"
            )
        if student.shape[0] < 2:
            raise InputError(
                f"{self.name}: {described(tap)} is of a batch of {student.shape[0]}, where the "
                "alignment is 1 whatever the features; give batches of 2 or more"
            )
        return -(_kernel(student) * _kernel(teacher)).sum()


def _kernel(feature: Tensor) -> Tensor:
    """Returns the kernel divided by its norm."""
    rows = _unit(feature.flatten(1))  # first, so that no square overflows
    return _unit(rows @ rows.T)


def _unit(matrix: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(matrix)
    return matrix / norm.clamp_min(torch.finfo(matrix.dtype).eps)
