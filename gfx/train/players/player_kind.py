"""Defines kinds of players: generators that lead back, and side players of anyone's.

1. A side player is called with values of the student's step, and adds values of its own to it.
2. Each learns by its own losses: those of a side player have no gradient to the student, and those
   of the student none to the weights of the side player. What both shall minimise, both are given.
3. A side player has no discriminator, and sees no teachers.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor, nn

from gfx.train.terms.term import Need, StepValues

__all__ = ["Back", "PlayerKind", "Side", "SideSetting"]


@dataclass(frozen=True)
class PlayerKind:
    """What a player of a stage is; its fields are what a recipe may say under `kind`."""

    name: ClassVar[str]  # in recipes
    word: ClassVar[str] = ""  # the field that a bare word sets
    adds: ClassVar[tuple[str, ...]] = ()  # values of a step that terms may name in their `needs`
    needs: ClassVar[frozenset[Need]] = frozenset()  # what it asks of a step: "target" or nothing

    def spec(self) -> dict[str, Any]:
        """Returns the fields, with every default."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Back(PlayerKind):
    """A generator from the second set of images back to the first, with the layers of another net.

    Source: Zhu et al. 2017, arXiv:1703.10593 (CycleGAN), figure 3.
    """

    name: ClassVar[str] = "back"


@dataclass(frozen=True)
class SideSetting:
    """What a side player is built from.

    `inputs` are what it is called with for the first batch, `image` the student's image of it.
    """

    inputs: tuple[Tensor, ...]
    image: Tensor
    seed: int


@dataclass(frozen=True)
class Side(PlayerKind, ABC):
    """A net of one's own that learns beside the student, as an encoder from images to latents.

    Example:
        >>> @dataclass(frozen=True)
        ... class Encode(Side):  # in a recipe `kind: encode`
        ...     name: ClassVar[str] = "encode"
        ...     adds: ClassVar[tuple[str, ...]] = ("latent",)
        ...     def build(self, setting):
        ...         return nn.Sequential(nn.Flatten(), nn.Linear(setting.image[0].numel(), 4))
        ...     def inputs(self, values):
        ...         return (values.image,)
        >>> Encode().adds, Encode().spec()
        (('latent',), {})
    """

    @abstractmethod
    def build(self, setting: SideSetting) -> nn.Module:
        """Returns the net; new weights are drawn from the seed of the run and the player's name.

        It returns one tensor for each name of `adds`: alone, or several as a tuple.
        """

    @abstractmethod
    def inputs(self, values: StepValues) -> tuple[Tensor, ...]:
        """Returns what the net is called with in a step.

        Terms of the student that name what it adds differentiate `values.image` through it.
        """
