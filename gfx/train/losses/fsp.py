"""Compares the flow between features of student and teacher (FSP)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfx.errors import InputError
from gfx.train.losses.base import Pairs, TapLoss, described, labels
from gfx.train.losses.checks import Features, near, paired, size, widely

__all__ = ["FSPLoss"]


class FSPLoss(TapLoss):
    """Compares the flow of solution procedure: products of the channels of two taps.

    G_ij = Σ_s,t F1_s,t,i · F2_s,t,j / (h w)
    L_FSP = Σ_l λ_l ‖G_l^T - G_l^S‖²

    with the mean over the images of a batch, and the sum of squares over each matrix. Where the two
    taps differ in size, the larger is brought to the smaller by max pooling, as in the paper. In
    the paper the pairs are the first and last layers of a stage; here, unless `flows` names others,
    each tap and the next. `weights` has the λ_l by the first tap of a pair.

    Shapes: (N, C, H, W), of equal N and C in student and teacher after the adapters.
    Raises: InputError if taps or widths differ, there is but one tap, or something is not finite.

    Source: Yim et al. 2017, A Gift from Knowledge Distillation (CVPR), equations 1 and 2.

    Example:
        >>> student = [torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)]
        >>> teacher = [torch.ones(1, 1, 2, 2), torch.full((1, 1, 2, 2), 3.0)]
        >>> float(FSPLoss()(student, teacher))  # (1 · 3 - 0)²
        9.0
    """

    def __init__(
        self,
        adapters: nn.Module | None = None,
        weights: Mapping[str, float] | None = None,
        adapts: Literal["student", "teacher"] = "student",
        flows: Sequence[tuple[str, str]] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(adapters, weights, adapts, name)
        self.flows = None if flows is None else [(first, second) for first, second in flows]

    def forward(self, student: Features, teacher: Features) -> Tensor:
        """Returns the sum over the pairs of taps.

        Raises: InputError if taps or widths differ, or something is not finite.
        """
        given = paired(self.name, student, teacher)
        pairs = self.adapted(given)
        flows = self._flows(list(pairs))
        for tap, (ours, theirs) in pairs.items():
            if ours.dim() != 4 or theirs.dim() != 4 or ours.shape[:2] != theirs.shape[:2]:
                raise InputError(
                    f"{self.name}: {described(tap)} is {size(ours)} in the student and "
                    f"{size(theirs)} in the teacher; give (N, C, H, W) of equal N and C, and "
                    "adapters=gfx.adapters(student, teacher, example_inputs) where C differs"
                )
        terms = []
        for first, second in flows:
            (ours, theirs), (our_next, their_next) = pairs[first], pairs[second]
            with widely(ours):
                gap = _flow(ours, our_next) - _flow(theirs, their_next)
            terms.append(self.weights.get(first, 1.0) * gap.square().sum((1, 2)).mean())
        # the maximum of -inf and a number is a number
        pooled = [tap for pair in flows if _differ(pairs, *pair) for tap in pair]
        hidden = [value for tap in dict.fromkeys(pooled) for value in pairs[tap]]
        return self.sound(torch.stack(terms).sum(), labels(given, pairs), hidden)

    def _flows(self, taps: list[str]) -> list[tuple[str, str]]:
        if self.flows is None and len(taps) < 2:
            raise InputError(f"{self.name}: a flow is between two taps, and there is one; tap more")
        flows = list(pairwise(taps)) if self.flows is None else self.flows
        for tap in (tap for pair in flows for tap in pair):
            if tap not in taps:
                raise InputError(f"{self.name}: flows has {tap!r}, no tap{near(tap, taps)}")
        return flows


def _differ(pairs: Pairs, first: str, second: str) -> bool:
    """Whether two taps are of different sizes, so that one is pooled."""
    return any(a.shape[2:] != b.shape[2:] for a, b in zip(pairs[first], pairs[second], strict=True))


def _flow(first: Tensor, second: Tensor) -> Tensor:
    """Returns G (N, C of the first, C of the second)."""
    height, width = (min(a, b) for a, b in zip(first.shape[2:], second.shape[2:], strict=True))
    flat = [_pooled(value, height, width).flatten(2) for value in (first, second)]
    return flat[0] @ flat[1].transpose(1, 2) / (height * width)


def _pooled(value: Tensor, height: int, width: int) -> Tensor:
    if value.shape[2:] == (height, width):
        return value
    return F.adaptive_max_pool2d(value, (height, width))
