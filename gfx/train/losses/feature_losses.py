"""Compares features of student and teacher."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfx.errors import InputError
from gfx.train.losses.base import TapLoss, described
from gfx.train.losses.checks import size

__all__ = ["ChannelLoss", "ContentLoss", "FeatureLoss", "TextureLoss"]

_ADAPT = "; give adapters=gfx.adapters(student, teacher, example_inputs)"


class FeatureLoss(TapLoss):
    """Takes the mean squared error of features, the student's adapted to the teacher's width.

    L_distill = Σ_t λ_t ‖f_t(S_t) - T_t‖²

    with the mean over all elements, as the authors' code has it; equation 3 writes a norm and f_t
    on the teacher's side, the text and the code have it on the student's.

    Shapes: (N, C, ...), equal after the adapters.
    Raises: InputError if taps or sizes differ, or something is not finite.

    Source: Li et al. 2020, arXiv:2003.08936 (GAN Compression), equation 3.

    Example:
        >>> student, teacher = torch.zeros(1, 2, 1, 1), torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
        >>> float(FeatureLoss()({"down": student}, {"down": teacher}))
        5.0
        >>> adapters = nn.ModuleDict({"down": nn.Conv2d(4, 2, 1)})
        >>> FeatureLoss(adapters)({"down": torch.ones(1, 4, 1, 1)}, {"down": teacher}).shape
        torch.Size([])
    """

    def term(self, tap: str, student: Tensor, teacher: Tensor) -> Tensor:
        """Returns the mean squared error."""
        self.same_size(described(tap), student, teacher, _advice(student, teacher))
        return F.mse_loss(student, teacher)


class ContentLoss(TapLoss):
    """Takes the root of the mean squared error of features.

    Σ_l √(mean (O_l' - O_l)²)

    Reconstructed: the equation of the paper was not to be had; its code takes this root, and none
    for CycleGAN, which is `FeatureLoss`. The gradient is 0 where both are equal, as at the start of
    a student that is a copy.

    Shapes: (N, C, ...), equal after the adapters.
    Raises: InputError if taps or sizes differ, or something is not finite.

    Source: Li et al. 2021, arXiv:2110.14439 (GCC), by its code.

    Example:
        >>> float(ContentLoss()(torch.zeros(1, 2), torch.tensor([[1.0, 7.0]])))
        5.0
    """

    def term(self, tap: str, student: Tensor, teacher: Tensor) -> Tensor:
        """Returns the root mean squared error."""
        self.same_size(described(tap), student, teacher, _advice(student, teacher))
        return _norm(student - teacher, None) / math.sqrt(student.numel())


class TextureLoss(TapLoss):
    """Compares features by their Gram matrices: which channels are active together.

    Texture(O', O) = 1 / c² · √(Σ_ij (G_ij(O') - G_ij(O))²),  G_ij = <O_i, O_j>

    with the sum over the taps and the mean over the images of a batch. `scale="code"` is what the
    authors' code computes, and what the weights of their table I (γ_t, 1e4 for pix2pix) are for: G
    divided by c h w, and the root of the mean of the squares over batch and matrix.

    Shapes: (N, C, ...), of equal N and C after the adapters.
    Raises: InputError if taps or widths differ, or something is not finite.

    Source: Li et al. 2021, arXiv:2110.14439 (GCC), appendix C, equation 1; Gatys et al. 2015,
    arXiv:1508.06576 (Gram matrices).

    Example:
        >>> student, teacher = torch.zeros(1, 2, 1), torch.tensor([[[3.0], [4.0]]])
        >>> float(TextureLoss()(student, teacher))  # G of the teacher: [[9, 12], [12, 16]]
        6.25
    """

    def __init__(
        self,
        adapters: nn.Module | None = None,
        weights: Mapping[str, float] | None = None,
        adapts: Literal["student", "teacher"] = "student",
        scale: Literal["paper", "code"] = "paper",
        name: str | None = None,
    ) -> None:
        super().__init__(adapters, weights, adapts, name)
        if scale not in ("paper", "code"):
            raise InputError(f"{self.name}: scale={scale!r}; give 'paper' or 'code'")
        self.scale = scale

    def term(self, tap: str, student: Tensor, teacher: Tensor) -> Tensor:
        """Returns the distance of the Gram matrices."""
        _same_width(self, tap, student, teacher)
        n, c = student.shape[:2]
        if self.scale == "paper":
            return _norm(_gram(student) - _gram(teacher), (1, 2)).mean() / c**2
        gap = _gram(student) / student[0].numel() - _gram(teacher) / teacher[0].numel()
        return _norm(gap, None) / (c * math.sqrt(n))

    def extra_repr(self) -> str:
        """Writes the scale."""
        return f"scale={self.scale!r}"


class ChannelLoss(TapLoss):
    """Compares how active each channel is, the mean over all positions.

    L_CD = Σ_l mean (GAP(f_l(S_l)) - GAP(T_l))²

    The authors' f_l is a 1x1 convolution with BatchNorm and ReLU.

    Shapes: (N, C, ...), of equal N and C after the adapters; heights and widths may differ.
    Raises: InputError if taps or widths differ, or something is not finite.

    Source: Ren et al. 2021, arXiv:2108.06908 (OMGD), channel distillation.

    Example:
        >>> float(ChannelLoss()(torch.zeros(1, 1, 4, 4), torch.full((1, 1, 2, 2), 3.0)))
        9.0
    """

    def term(self, tap: str, student: Tensor, teacher: Tensor) -> Tensor:
        """Returns the mean squared error of the channels' means."""
        _same_width(self, tap, student, teacher)
        return F.mse_loss(_mean(student), _mean(teacher))


def _norm(value: Tensor, dim: tuple[int, int] | None) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(value, dim=dim)  # its gradient at 0 is 0, not NaN
    return found


def _mean(feature: Tensor) -> Tensor:
    return feature.reshape(*feature.shape[:2], -1).mean(2)


def _gram(feature: Tensor) -> Tensor:
    flat = feature.reshape(*feature.shape[:2], -1)
    return flat @ flat.transpose(1, 2)


def _same_width(loss: TapLoss, tap: str, student: Tensor, teacher: Tensor) -> None:
    if student.shape[:2] != teacher.shape[:2]:
        loss.same_size(described(tap), student, teacher, _advice(student, teacher))


def _advice(student: Tensor, teacher: Tensor) -> str:
    if student.shape[0] != teacher.shape[0]:
        return "; run both on the same batch"
    if student.shape[1:2] != teacher.shape[1:2]:
        return _ADAPT
    return (
        f"; tap layers of one size: positions are {size(student[0, 0])} and {size(teacher[0, 0])}"
    )
