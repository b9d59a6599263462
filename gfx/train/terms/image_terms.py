"""Terms that compare images: with the ground truth, or with the teacher's."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from gfx.train.losses import (
    OutputLoss,
    ReconstructionLoss,
    SSIMLoss,
    TotalVariationLoss,
)
from gfx.train.terms.term import Need, Objective, StepValues, Term, TermSetting

__all__ = ["L1", "Mimic", "Recon", "Ssim", "TotalVariation"]

_TARGET: frozenset[Need] = frozenset({"target"})
_TEACHER: frozenset[Need] = frozenset({"teacher"})


@dataclass(frozen=True)
class L1(Term):
    """The mean absolute error to the ground truth.

    Source: Isola et al. 2017, arXiv:1611.07004 (pix2pix), equation 3.
    """

    name: ClassVar[str] = "l1"
    needs: ClassVar[frozenset[Need]] = _TARGET

    def build(self, setting: TermSetting) -> Objective:
        """Builds the loss."""
        return _ToTarget(ReconstructionLoss(paired=True, name="l1"))


class _ToTarget(Objective):
    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def generator(self, values: StepValues) -> Tensor | None:
        target = values.target
        found: Tensor | None = None if target is None else self.loss(values.image, target)
        return found


class _ToTeachers(Objective):
    """Sums a loss over the images of all teachers."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def generator(self, values: StepValues) -> Tensor | None:
        found: Tensor | None = None
        for teacher in values.teachers:
            term: Tensor = self.loss(values.image, teacher.image)
            found = term if found is None else found + term
        return found


@dataclass(frozen=True)
class Recon(Term):
    """The mean absolute error to the ground truth where there is one, else to the teacher's image.

    Of pairs of which some have their targets, each goes by itself.

    That makes unpaired data paired: the teacher's image is the target.

    Source: Li et al. 2020, arXiv:2003.08936 (GAN Compression), equation 1.
    """

    name: ClassVar[str] = "recon"
    needs: ClassVar[frozenset[Need]] = frozenset({"target or teacher"})

    def build(self, setting: TermSetting) -> Objective:
        """Builds the loss."""
        return _Recon()


class _Recon(Objective):
    def __init__(self) -> None:
        super().__init__()
        self.paired = ReconstructionLoss(paired=True, name="recon")
        self.unpaired = ReconstructionLoss(paired=False, name="recon")

    def generator(self, values: StepValues) -> Tensor | None:
        target = values.target
        if target is not None:
            return self.paired(values.image, target)
        return self.unpaired(values.image, values.target_else(values.teachers[0].image))


@dataclass(frozen=True)
class Mimic(Term):
    """The error to the teachers' images: mse, or l1.

    Source: Aguinaldo et al. 2019, arXiv:1902.00159.
    """

    name: ClassVar[str] = "mimic"
    word: ClassVar[str] = "kind"
    needs: ClassVar[frozenset[Need]] = _TEACHER

    kind: Literal["mse", "l1"] = "mse"

    def build(self, setting: TermSetting) -> Objective:
        """Builds the loss."""
        return _ToTeachers(OutputLoss(self.kind, name="mimic"))


@dataclass(frozen=True)
class Ssim(Term):
    """One minus the structural similarity to the teachers' images.

    Source: Ren et al. 2021, arXiv:2108.06908 (OMGD).
    """

    name: ClassVar[str] = "ssim"
    needs: ClassVar[frozenset[Need]] = _TEACHER

    data_range: float = 2.0  # of the images: 2 from -1 to 1

    def build(self, setting: TermSetting) -> Objective:
        """Builds the loss."""
        return _ToTeachers(SSIMLoss(self.data_range, name="ssim"))


@dataclass(frozen=True)
class TotalVariation(Term):
    """The total variation of the image: noise costs.

    Source: Ren et al. 2021, arXiv:2108.06908 (OMGD).
    """

    name: ClassVar[str] = "total_variation"

    def build(self, setting: TermSetting) -> Objective:
        """Builds the loss."""
        return _Alone(TotalVariationLoss(reduction="mean", name="total_variation"))


class _Alone(Objective):
    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def generator(self, values: StepValues) -> Tensor | None:
        found: Tensor = self.loss(values.image)
        return found
