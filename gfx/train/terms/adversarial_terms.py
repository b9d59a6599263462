"""Terms that go through the discriminator."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gfx.errors import InputError, check_range
from gfx.train.losses import DiscriminatorLoss, GeneratorLoss
from gfx.train.losses.adversarial import GANKind
from gfx.train.terms.term import Need, Objective, StepValues, Term, TermSetting

__all__ = ["FeatureMatching", "Gan", "LabelNames"]


@dataclass(frozen=True)
class Gan(Term):
    """The adversarial losses of both players: `gan: hinge`, `lsgan` or `vanilla`.

    The discriminator's loss counts `of_discriminator` times, whatever `weight` is.

    Source: Li et al. 2020, arXiv:2003.08936, equation 4; the factor of one half is its code's.
    """

    name: ClassVar[str] = "gan"
    word: ClassVar[str] = "kind"
    needs: ClassVar[frozenset[Need]] = frozenset({"discriminator"})

    kind: GANKind = "hinge"
    of_discriminator: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("gan: of_discriminator", self.of_discriminator, above=0, below=float("inf"))

    def build(self, setting: TermSetting) -> Objective:
        """Builds both losses."""
        return _Gan(self)


class _Gan(Objective):
    def __init__(self, term: Gan) -> None:
        super().__init__()
        self.fool = GeneratorLoss(term.kind, "gan")
        self.tell = DiscriminatorLoss(term.kind, "gan of the discriminator")
        self.factor = term.of_discriminator

    def generator(self, values: StepValues) -> Tensor | None:
        return self.fool(values.scores_of_fake)

    def discriminator(self, values: StepValues) -> Tensor | None:
        return self.factor * self.tell(values.scores_of_real, values.scores_of_fake)


@dataclass(frozen=True)
class FeatureMatching(Term):
    """The mean absolute difference between the discriminator's layers on fakes and real images.

    The discriminator returns the outputs of its layers, the score last; of several scales a list of
    such. Each layer counts as much, and the score does not.

    Source: Wang et al. 2018, arXiv:1711.11585 (pix2pixHD), equation 4.
    """

    name: ClassVar[str] = "feature_matching"
    needs: ClassVar[frozenset[Need]] = frozenset({"discriminator"})

    def build(self, setting: TermSetting) -> Objective:
        """Builds the loss."""
        return _FeatureMatching()


class _FeatureMatching(Objective):
    def generator(self, values: StepValues) -> Tensor | None:
        fakes, reals = (_layers(x) for x in (values.scores_of_fake, values.scores_of_real))
        terms = [
            torch.stack([F.l1_loss(a, b.detach()) for a, b in zip(fake, real, strict=True)]).sum()
            for fake, real in zip(fakes, reals, strict=True)
        ]
        return torch.stack(terms).mean()


@dataclass(frozen=True)
class LabelNames(Term):
    """The loss of the labels that the discriminator names: attributes or classes.

    The discriminator learns to name those of real images, the generator to be named as it was
    asked; the weight holds for both.

    Source: Choi et al. 2018, arXiv:1711.09020 (StarGAN), equations 2 and 3.
    """

    name: ClassVar[str] = "labels"
    needs: ClassVar[frozenset[Need]] = frozenset({"discriminator"})

    def build(self, setting: TermSetting) -> Objective:
        """Builds both losses."""
        return _LabelNames(self.weight)


class _LabelNames(Objective):
    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def generator(self, values: StepValues) -> Tensor | None:
        return values.label_loss(fake=True)

    def discriminator(self, values: StepValues) -> Tensor | None:
        return self.weight * values.label_loss(fake=False)


def _layers(scores: object) -> list[list[Tensor]]:
    """Returns the outputs of all layers but the score, by scale."""
    listed = scores if isinstance(scores, list | tuple) else [scores]
    scales = [listed] if all(isinstance(each, Tensor) for each in listed) else listed
    found = [list(scale)[:-1] for scale in scales if isinstance(scale, list | tuple)]
    if not found or not all(found):
        raise InputError(
            "feature_matching: the discriminator returns scores alone; take one that returns its "
            "layers' outputs, as zoo:multiscale_patchgan, or leave the term out"
        )
    return found
