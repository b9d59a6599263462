"""Defines what a term of an objective is, and what it sees of a training step.

    losses: {gan: hinge, l1: 100, taps: {weight: 1, init: random}}

1. A term is a frozen dataclass; its fields are what a recipe may say. A number sets `weight`, a
   word the field `word`.
2. Before training it is built: an Objective, a module whose parameters, as those of adapters, learn
   with the generator.
3. An objective sees the values of a step, which are computed when they are first asked for. What
   goes through the discriminator has no gradient to its weights in the generator's loss.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from gfx.errors import check_range

__all__ = [
    "NEEDS",
    "Features",
    "Need",
    "Objective",
    "Shown",
    "StepValues",
    "Term",
    "TermSetting",
]

Features = dict[str, Tensor]  # by tap
# one of NEEDS, or what a player of the stage adds; "way back": a generator that leads back;
# "rerun": the generator that learns, on another input
Need = str
NEEDS: frozenset[Need] = frozenset(
    {"discriminator", "teacher", "taps", "target", "target or teacher", "way back", "rerun"}
)


class Shown(Protocol):
    """What one teacher makes of a batch; without gradients."""

    @property
    def image(self) -> Tensor:
        """The image, (N, C, H, W)."""

    @property
    def features(self) -> Features:
        """The features at its taps."""

    @property
    def scores(self) -> Any:
        """What the student's discriminator says of the image."""


class StepValues(Protocol):
    """What an objective sees of a training step."""

    @property
    def image(self) -> Tensor:
        """The image of the generator that learns."""

    @property
    def features(self) -> Features:
        """Its features, by tap."""

    @property
    def given(self) -> Tensor:
        """The input image, of tasks that have one."""

    @property
    def target(self) -> Tensor | None:
        """The ground truth, where the batch has it."""

    @property
    def labelled(self) -> Tensor | None:
        """Which examples have their ground truth, (N,) of bool; None: the task does not ask."""

    def target_else(self, other: Tensor) -> Tensor:
        """Returns the ground truth of the examples that have one, and of the rest what is given."""

    @property
    def real(self) -> Tensor:
        """Real images, as many as the batch has examples."""

    @property
    def scores_of_fake(self) -> Any:
        """What the discriminator says of the image."""

    @property
    def scores_of_real(self) -> Any:
        """What it says of the real images."""

    def label_loss(self, *, fake: bool) -> Tensor:
        """Returns the loss of the labels that the discriminator names, of fakes or real images."""

    def led_back(self, by: str | None = None) -> Tensor:
        """Returns what the generator that leads back makes of the image; None: the only one.

        A term that asks for it needs "way back": the other generator learns by it too.
        """

    def rerun(self, image: Tensor) -> Tensor:
        """Returns what the generator that learns makes of another input.

        A term that asks for it needs "rerun".
        """

    def added(self, name: str) -> Tensor:
        """Returns a value that a player of the stage adds, differentiable up to the image.

        A term that asks for it has the name in its needs.
        """

    @property
    def teachers(self) -> tuple[Shown, ...]:
        """What the teachers make of the batch, in the order of the recipe."""


@dataclass(frozen=True)
class TermSetting:
    """What a term is built from: the nets that it will see.

    `shown` are the teachers' features at the taps for one batch, `seen` the student's; of an
    `elastic` student, a supernet, those of its largest net: a subnet has the first channels.
    """

    seen: Features
    shown: tuple[Features, ...]
    seed: int
    elastic: bool = False


class Objective(nn.Module):
    """A term that is built; it may have parameters, which learn with the generator."""

    def generator(self, values: StepValues) -> Tensor | None:
        """Returns what the generator minimises, one number; None: nothing of it."""
        return None

    def discriminator(self, values: StepValues) -> Tensor | None:
        """Returns what the discriminator minimises, one number; None: nothing of it."""
        return None


@dataclass(frozen=True)
class Term(ABC):
    """One term of an objective, and its weight.

    Raises: RecipeError if the weight is negative or no number.
    """

    name: ClassVar[str]  # in recipes
    word: ClassVar[str] = ""  # the field that a bare word sets
    needs: ClassVar[frozenset[Need]] = frozenset()

    weight: float = 1.0

    def __post_init__(self) -> None:
        check_range(f"{self.name}: weight", self.weight, at_least=0, below=float("inf"))

    @abstractmethod
    def build(self, setting: TermSetting) -> Objective:
        """Builds the objective.

        Raises: InputError if it does not fit the nets.
        """

    def uses(self) -> nn.Module | None:
        """Returns a network of the user's that the term compares by; None: it has none.

        A run with other weights of it is another run.

        Raises: InputError if it cannot be made.
        """
        return None

    def spec(self) -> dict[str, Any]:
        """Returns the fields, with every default."""
        return {f.name: getattr(self, f.name) for f in fields(self)}
