"""Terms of unpaired translation: there and back again, and images that are already right."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gfx.train.losses import ReconstructionLoss
from gfx.train.terms.term import Need, Objective, StepValues, Term, TermSetting

__all__ = ["Cycle", "Identity"]


@dataclass(frozen=True)
class Cycle(Term):
    """The mean absolute error between an input and what leads back from its image.

    L = E |F(G(x)) - x|  for the generator G and the one that leads back, F

    Both learn by it. Each way has a term of its own: give it to both generators.

    Source: Zhu et al. 2017, arXiv:1703.10593 (CycleGAN), equation 2.
    """

    name: ClassVar[str] = "cycle"
    word: ClassVar[str] = "by"
    needs: ClassVar[frozenset[Need]] = frozenset({"way back"})

    weight: float = 10.0  # of the authors' code
    by: str | None = None  # the generator that leads back; None: the only one

    def build(self, setting: TermSetting) -> Objective:
        """Builds the loss."""
        return _Cycle(self.by)


class _Cycle(Objective):
    def __init__(self, by: str | None) -> None:
        super().__init__()
        self.by = by
        self.loss = ReconstructionLoss(paired=True, name="cycle")

    def generator(self, values: StepValues) -> Tensor | None:
        found: Tensor = self.loss(values.led_back(self.by), values.given)
        return found


@dataclass(frozen=True)
class Identity(Term):
    """The mean absolute error that the generator makes of images which are already right.

    L = E |G(y) - y|  for real images y

    It keeps colours; inputs and images are of one size and range.

    Source: Zhu et al. 2017, arXiv:1703.10593 (CycleGAN), section 5.2.
    """

    name: ClassVar[str] = "identity"
    needs: ClassVar[frozenset[Need]] = frozenset({"rerun"})

    weight: float = 5.0  # half of the weight of `cycle`, as in the authors' code

    def build(self, setting: TermSetting) -> Objective:
        """Builds the loss."""
        return _Identity()


class _Identity(Objective):
    def __init__(self) -> None:
        super().__init__()
        self.loss = ReconstructionLoss(paired=True, name="identity")

    def generator(self, values: StepValues) -> Tensor | None:
        found: Tensor = self.loss(values.rerun(values.real), values.real)
        return found
