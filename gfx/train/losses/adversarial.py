"""Defines the adversarial losses of both players: hinge, least squares, and the original."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from gfx.errors import InputError
from gfx.train.losses.base import Loss
from gfx.train.losses.checks import near, wide, widely

__all__ = ["DiscriminatorLoss", "GANKind", "GeneratorLoss", "Scores"]

GANKind = Literal["hinge", "lsgan", "vanilla"]
Scores = Tensor | Sequence[Any]  # of one scale, or of several


class _Adversarial(Loss):
    """Shares code between the losses of both players."""

    def __init__(self, kind: GANKind = "hinge", name: str | None = None) -> None:
        super().__init__(name)
        if kind not in get_args(GANKind):
            known = near(str(kind), get_args(GANKind))
            raise InputError(f"{self.name}: there is no kind {kind!r}{known}")
        self.kind = kind

    def extra_repr(self) -> str:
        """Writes the kind."""
        return self.kind

    def scales(self, whose: str, scores: Scores) -> list[Tensor]:
        """Returns the scores of each scale; of a list of layers' outputs the last.

        Raises: InputError if something in it is no floating tensor, or there is nothing.
        """
        listed = [scores] if isinstance(scores, Tensor) else list(scores)
        found = [
            each if isinstance(each, Tensor) else list(each)[-1] for each in listed if _full(each)
        ]
        if not found or len(found) < len(listed):
            raise InputError(f"{self.name}: the scores of {whose} are empty")
        for each in found:
            if not isinstance(each, Tensor) or not each.is_floating_point():
                kind = each.dtype if isinstance(each, Tensor) else type(each).__name__
                raise InputError(
                    f"{self.name}: the scores of {whose} are of {kind}; give what the "
                    "discriminator returns, floating, before any sigmoid"
                )
        return [wide(each) for each in found]

    def mean(self, scales: Sequence[Tensor], each: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns the mean over the scales of the mean over the scores."""
        with widely(scales[0]):
            return torch.stack([each(scores).mean() for scores in scales]).mean()


class GeneratorLoss(_Adversarial):
    """Rewards a generator for fakes that the discriminator takes for real.

    With D(G) the scores of fakes, without a sigmoid:

        hinge    -E[D(G)]
        lsgan    ½ E[(D(G) - 1)²]
        vanilla  -E[log σ(D(G))]

    The mean over several scales is taken where D returns a list; of a scale that is itself a list
    of layers' outputs, the last is the score. The code of pix2pix and CycleGAN leaves the ½ out.

    Shapes: `fake` of any shape, or a list of such.

    Source: Lim and Ye 2017, arXiv:1705.02894 (hinge); Mao et al. 2017, arXiv:1611.04076, equation
    9 with a = 0, b = c = 1 (lsgan); Goodfellow et al. 2014, arXiv:1406.2661, section 3 (vanilla,
    as not saturating).

    Example:
        >>> scores = torch.tensor([-1.0, 2.0])
        >>> [float(GeneratorLoss(kind)(scores)) for kind in ("hinge", "lsgan")]
        [-0.5, 1.25]
    """

    def forward(self, fake: Scores) -> Tensor:
        """Returns the loss of the generator.

        Raises: InputError if the scores are empty, not floating or not finite.
        """
        scales = self.scales("fakes", fake)
        value = self.mean(scales, _GENERATOR[self.kind])
        return self.sound(value, {"the scores of fakes": _flat(scales)}, scales)


class DiscriminatorLoss(_Adversarial):
    """Rewards a discriminator for telling real images from fakes.

    With D(x) the scores of real images, D(G) those of fakes, without a sigmoid:

        hinge    E[max(0, 1 - D(x))] + E[max(0, 1 + D(G))]
        lsgan    ½ E[(D(x) - 1)²] + ½ E[D(G)²]
        vanilla  -E[log σ(D(x))] - E[log(1 - σ(D(G)))]

    The mean over several scales is taken where D returns a list. GAN Compression takes half of it
    for hinge. Detach the fakes, or their generator gets a gradient.

    Shapes: `real` and `fake` of any shapes, or lists of as many.

    Source: as for `GeneratorLoss`.

    Example:
        >>> real, fake = torch.tensor([0.5, 2.0]), torch.tensor([-1.0, 0.0])
        >>> float(DiscriminatorLoss("hinge")(real, fake))
        0.75
    """

    def forward(self, real: Scores, fake: Scores) -> Tensor:
        """Returns the loss of the discriminator.

        Raises: InputError if the scores are empty, not floating or not finite, or of a different
        number of scales.
        """
        reals, fakes = self.scales("real images", real), self.scales("fakes", fake)
        if len(reals) != len(fakes):
            raise InputError(
                f"{self.name}: there are {len(reals)} scales of scores of real images and "
                f"{len(fakes)} of fakes; give what one discriminator returns for both"
            )
        of_real, of_fake = _DISCRIMINATOR[self.kind]
        value = self.mean(reals, of_real) + self.mean(fakes, of_fake)
        named = {"the scores of real images": _flat(reals), "the scores of fakes": _flat(fakes)}
        return self.sound(value, named, [*reals, *fakes])  # the hinge of an inf may be 0


def _full(scale: Any) -> bool:
    return scale.numel() > 0 if isinstance(scale, Tensor) else len(scale) > 0


def _flat(scales: Sequence[Tensor]) -> Tensor:
    return torch.cat([each.detach().flatten() for each in scales])


def _vanilla(target: float) -> Callable[[Tensor], Tensor]:
    return lambda scores: F.binary_cross_entropy_with_logits(
        scores, torch.full_like(scores, target), reduction="none"
    )


_GENERATOR: dict[str, Callable[[Tensor], Tensor]] = {
    "hinge": lambda scores: -scores,
    "lsgan": lambda scores: (scores - 1).square() / 2,
    "vanilla": _vanilla(1.0),
}
_DISCRIMINATOR: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "hinge": (lambda scores: F.relu(1 - scores), lambda scores: F.relu(1 + scores)),
    "lsgan": (lambda scores: (scores - 1).square() / 2, lambda scores: scores.square() / 2),
    "vanilla": (_vanilla(1.0), _vanilla(0.0)),
}
