"""The term of self-supervised compression: losses relative to the original's."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gfx.errors import check_range
from gfx.train.losses import DiscriminatorLoss, GeneratorLoss, SelfSupervisedLoss
from gfx.train.losses.adversarial import GANKind
from gfx.train.terms.term import Need, Objective, StepValues, Term, TermSetting

__all__ = ["SelfSupervised"]


@dataclass(frozen=True)
class SelfSupervised(Term):
    """L_GC + λ L_DC: the student is to be judged as the teacher is, by the same discriminator.

    The discriminator goes on learning by its own loss, of the kind that it was trained with.

    Source: Yu and Pool 2020, arXiv:2007.01491.
    """

    name: ClassVar[str] = "self_supervised"
    word: ClassVar[str] = "kind"
    needs: ClassVar[frozenset[Need]] = frozenset({"discriminator", "teacher"})

    kind: GANKind = "vanilla"  # of the losses that the original was trained with
    lam: float = 0.5  # λ

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("self_supervised: lam", self.lam, at_least=0, below=float("inf"))

    def build(self, setting: TermSetting) -> Objective:
        """Builds the loss."""
        return _SelfSupervised(self)


class _SelfSupervised(Objective):
    def __init__(self, term: SelfSupervised) -> None:
        super().__init__()
        self.fool = GeneratorLoss(term.kind, "self_supervised")
        self.tell = DiscriminatorLoss(term.kind, "self_supervised")
        self.relative = SelfSupervisedLoss(lam=term.lam, name="self_supervised")

    def generator(self, values: StepValues) -> Tensor | None:
        real, ours = values.scores_of_real, values.scores_of_fake
        theirs = values.teachers[0].scores
        return self.relative(
            compressed=self.fool(ours),
            original=self.fool(theirs),
            discriminator_compressed=self.tell(real, ours),
            discriminator_original=self.tell(real, theirs),
        )

    def discriminator(self, values: StepValues) -> Tensor | None:
        return self.tell(values.scores_of_real, values.scores_of_fake)
