"""Trains generators that draw animals from noise, as DCGAN does, and measures what they draw.

Nothing here knows of compression: it stands for the loop that you have.

Source: Radford et al. 2016, arXiv:1511.06434 (DCGAN); Goodfellow et al. 2014, arXiv:1406.2661
(the loss).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from animals import Animals, train_classifier
from frechet import distance_to
from rich.progress import track
from torch import Tensor, nn

import gfx
from gfx.tune.losses import DiscriminatorLoss, GeneratorLoss

__all__ = [
    "Course",
    "Score",
    "Scorer",
    "adam",
    "descend",
    "drawn_by",
    "fools",
    "new_discriminator",
    "new_generator",
    "noise",
    "tells",
    "train",
    "with_new_weights",
]

Net = TypeVar("Net", bound=nn.Module)

LATENT = 64  # numbers of noise
WIDTH = 16  # of the teacher's last layer but one, and of the discriminator's first
RATE = 5e-4  # of Adam

tells, fools = DiscriminatorLoss("vanilla"), GeneratorLoss("vanilla")


@dataclass(frozen=True)
class Course:
    """Batches of pictures and of noise, with a progress bar; the seed says which."""

    what: str
    pictures: Tensor
    batch: int
    steps: int
    seed: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed)
        for _ in track(range(self.steps), f"{self.what}, {self.steps} steps"):
            chosen = torch.randint(len(self.pictures), (self.batch,), generator=generator)
            yield self.pictures[chosen], noise(self.batch, generator)


def noise(count: int, generator: torch.Generator) -> Tensor:
    """Draws latents of (count, LATENT, 1, 1)."""
    return torch.randn(count, LATENT, 1, 1, generator=generator)


def new_generator(seed: int) -> nn.Module:
    """Builds the teacher, (N, LATENT, 1, 1) -> (N, 1, 32, 32), with new weights."""
    model = gfx.zoo.build("dcgan", ngf=WIDTH, z_dim=LATENT, out_channels=1, image_size=32)
    return with_new_weights(model, seed)


def new_discriminator(seed: int) -> nn.Module:
    """Builds a discriminator, (N, 1, 32, 32) -> (N, 1, 1, 1), with new weights."""
    layers: list[nn.Module] = [nn.Conv2d(1, WIDTH, 4, 2, 1), nn.LeakyReLU(0.2)]
    for width in (WIDTH, 2 * WIDTH):
        layers += [nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * width)]
        layers += [nn.LeakyReLU(0.2)]
    return with_new_weights(nn.Sequential(*layers, nn.Conv2d(4 * WIDTH, 1, 4)), seed)


def with_new_weights(model: Net, seed: int) -> Net:
    """Draws the weights of a model as DCGAN does, in place."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
            module.reset_parameters()
            mean = 1.0 if isinstance(module, nn.BatchNorm2d) else 0.0
            nn.init.normal_(module.weight, mean, 0.02)
    return model.train()


def adam(model: nn.Module) -> torch.optim.Optimizer:
    """Makes the optimizer of a generator or a discriminator."""
    return torch.optim.Adam(model.parameters(), lr=RATE, betas=(0.5, 0.999))


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Goes one step down the gradient of a loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def train(generator: nn.Module, discriminator: nn.Module, course: Course) -> None:
    """Trains both as a GAN."""
    optimizer, critic = adam(generator), adam(discriminator)
    generator.train()
    for real, latents in course:
        made = generator(latents)
        descend(critic, tells(discriminator(real), discriminator(made.detach())))
        descend(optimizer, fools(discriminator(made)))
    generator.eval()


@torch.no_grad()
def drawn_by(model: nn.Module, latents: Tensor) -> Tensor:
    """Runs a model on much noise, some at a time."""
    return torch.cat([model(some) for some in torch.split(latents, 250)])


@dataclass(frozen=True)
class Score:
    """How far a generator's pictures are from real ones, and from the teacher's."""

    frechet: float
    change: float  # mean absolute change of a pixel


class Scorer:
    """Has generators draw from the same noise, and measures what they draw."""

    def __init__(self, data: Animals, steps: int, drawn: int) -> None:
        self.frechet = distance_to(train_classifier(data, steps), data.held_pictures)
        self.latents = noise(drawn, torch.Generator().manual_seed(0))

    def __call__(self, model: nn.Module, teacher: nn.Module) -> Score:
        """Measures a generator."""
        made = drawn_by(model, self.latents)
        self.frechet.reset()  # forgets all but the real pictures
        self.frechet.update(made, real=False)
        change = (made - drawn_by(teacher, self.latents)).abs().mean()
        return Score(float(self.frechet.compute()), float(change))
