"""Compares the attention maps of student and teacher."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from gfx.errors import InputError
from gfx.train.losses.base import Loss, described, labels
from gfx.train.losses.checks import Features, near, paired, size, wide, widely

__all__ = ["AttentionLoss"]


class AttentionLoss(Loss):
    """Compares attention maps: which positions are active for a class, whatever the widths.

    A_l = Σ_c a_c(y) |F_c|², divided by its norm ‖A_l‖₂,   L_CD = Σ_l ‖A_l^T - A_l^S‖²

    with the mean over the images of a batch. Reconstructed: the equations of the paper (4 and 6)
    were not to be had. Student and teacher are run on the same latents *and the same classes y*,
    which is what makes it class-aware (the supplement, section II). a_c(y) is a channel's weight
    for the class, such as the scale of a conditional norm; 1 where none is given.

    Shapes: features (N, C, ...), of equal N and positions; C may differ, so that no adapters are
    needed. `student_scales` and `teacher_scales`: a_c(y) by tap, (N, C) or (C,).

    Source: PPCD-GAN (Vo et al. 2022, arXiv:2203.08456), reconstructed; Zagoruyko and Komodakis
    2017, arXiv:1612.03928 (attention maps).

    Example:
        >>> teacher = torch.tensor([3.0, 0.0]).sqrt().view(1, 1, 1, 2)
        >>> student = torch.tensor([0.0, 5.0]).sqrt().view(1, 1, 1, 2)
        >>> round(float(AttentionLoss()(student, teacher)), 4)
        2.0
    """

    def forward(
        self,
        student: Features,
        teacher: Features,
        student_scales: Mapping[str, Tensor] | None = None,
        teacher_scales: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Returns the sum over the taps.

        Raises: InputError if taps, batches or positions differ, or something is not finite.
        """
        given = paired(self.name, student, teacher)
        scales = [dict(student_scales or {}), dict(teacher_scales or {})]
        for tap in {**scales[0], **scales[1]}:
            if tap not in given:
                raise InputError(f"{self.name}: scales has {tap!r}, no tap{near(tap, given)}")
        terms = []
        for tap, (ours, theirs) in given.items():
            self._fits(tap, ours, theirs)
            with widely(ours):
                attention = self._map(tap, ours, scales[0].get(tap))
                wanted = self._map(tap, theirs, scales[1].get(tap)).detach()
                terms.append((attention - wanted).square().sum(1).mean())
        return self.sound(torch.stack(terms).sum(), labels(given))

    def _fits(self, tap: str, student: Tensor, teacher: Tensor) -> None:
        positions = [(value.shape[0], *value.shape[2:]) for value in (student, teacher)]
        if min(student.dim(), teacher.dim()) < 3 or positions[0] != positions[1]:
            raise InputError(
                f"{self.name}: {described(tap)} is {size(student)} in the student and "
                f"{size(teacher)} in the teacher; batch and positions must be the same, and there "
                "must be positions"
            )

    def _map(self, tap: str, feature: Tensor, scale: Tensor | None) -> Tensor:
        """Returns the attention (N, positions), of norm 1."""
        power = wide(feature).flatten(2).square()
        if scale is not None:
            if scale.shape not in (feature.shape[:2], feature.shape[1:2]):
                raise InputError(
                    f"{self.name}: the scales of {described(tap)} are {size(scale)}; give "
                    f"{feature.shape[1]}, or {feature.shape[0]}x{feature.shape[1]} by image"
                )
            power = power * wide(scale).expand(feature.shape[:2])[..., None]
        return F.normalize(power.sum(1), dim=1)
