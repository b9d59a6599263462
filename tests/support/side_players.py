"""A side player for the tests of training: an encoder from images to latents, with its term."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from gfx.train.players import Side, SideSetting
from gfx.train.terms import Objective, Term, TermSetting
from gfx.train.terms.term import StepValues

__all__ = ["Encode", "Latent"]


class Encoder(nn.Module):
    """Finds the mean colours of what an image was made of; its norm and dropout have states."""

    def __init__(self, width: int, drop: float) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.drop, self.head = nn.Dropout(drop), nn.Linear(width, 3)

    def forward(self, image: Tensor) -> Tensor:
        """Returns (N, 3)."""
        found: Tensor = self.head(self.drop(self.body(image).mean((2, 3))))
        return found


@dataclass(frozen=True)
class Encode(Side):
    """The encoder, of an image of the step."""

    name: ClassVar[str] = "encode"
    word: ClassVar[str] = "of"
    adds: ClassVar[tuple[str, ...]] = ("latent",)

    width: int = 8
    of: str = "image"
    drop: float = 0.2

    def build(self, setting: SideSetting) -> nn.Module:
        """Returns the net."""
        assert setting.inputs[0].shape == setting.image.shape
        return Encoder(self.width, self.drop)

    def inputs(self, values: StepValues) -> tuple[Tensor, ...]:
        """Returns the image."""
        return (getattr(values, self.of),)


@dataclass(frozen=True)
class Latent(Term):
    """The squared error of the latents that a player finds in an image."""

    name: ClassVar[str] = "latent"
    needs: ClassVar[frozenset[str]] = frozenset({"latent"})

    def build(self, setting: TermSetting) -> Objective:
        """Builds the loss."""
        return LatentLoss()


class LatentLoss(Objective):
    """Compares with the mean colours of what was given."""

    def generator(self, values: StepValues) -> Tensor:
        """Returns the error."""
        return F.mse_loss(values.added("latent"), values.given.mean((2, 3)))
