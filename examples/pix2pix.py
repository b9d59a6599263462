"""Trains generators that colour outlines, as pix2pix does, and measures what they draw.

A generator learns to draw what an artist did, and to make a discriminator take its drawings for the
artist's. Nothing here knows of compression: it stands for the loop that you have.

Source: Isola et al. 2017, arXiv:1611.07004 (pix2pix, equation 4); Mao et al. 2017,
arXiv:1611.04076 (the least-squares loss).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from drawings import Pairs
from frechet import distance_to, train_encoder
from rich.progress import track
from torch import Tensor, nn

from gfx.train.losses import DiscriminatorLoss, GeneratorLoss, ReconstructionLoss, Weighted

__all__ = [
    "RATE",
    "RECON",
    "Adversary",
    "Course",
    "Learner",
    "Score",
    "Scorer",
    "drawn_by",
    "patch_discriminator",
    "train",
]

GAN = "lsgan"  # or hinge, vanilla
RECON = 100.0  # weight of the L1 error beside the adversarial loss
RATE, DISCRIMINATOR_RATE = 1e-3, 2e-4  # of Adam


@dataclass(frozen=True)
class Course:
    """Batches of pairs, half of them mirrored, with a progress bar; the seed says which."""

    what: str
    data: Pairs
    batch: int
    steps: int
    seed: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed)
        for _ in track(range(self.steps), f"{self.what}, {self.steps} steps"):
            chosen = torch.randint(len(self.data.outlines), (self.batch,), generator=generator)
            mirrored = torch.rand(self.batch, 1, 1, 1, generator=generator) < 0.5
            pair = self.data.outlines[chosen], self.data.colours[chosen]
            outline, colour = (torch.where(mirrored, each.flip(3), each) for each in pair)
            yield outline, colour


class Learner:
    """Adam on some parameters; its rate stays for half of the steps, then falls to 0."""

    def __init__(self, parameters: Iterable[nn.Parameter], rate: float, steps: int) -> None:
        self.optimizer = torch.optim.Adam(parameters, lr=rate, betas=(0.5, 0.999))
        self.rate = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min(1.0, 2 * (1 - step / steps))
        )

    def step(self, loss: Tensor) -> None:
        """Goes down the gradient of a loss."""
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.rate.step()


class Adversary:
    """Trains a discriminator to tell drawings from what a generator makes of their outlines."""

    def __init__(self, discriminator: nn.Module, steps: int) -> None:
        self.discriminator = discriminator
        self.learner = Learner(discriminator.parameters(), DISCRIMINATOR_RATE, steps)
        self.tells, self.fools = DiscriminatorLoss(GAN), GeneratorLoss(GAN)

    def learn(self, outline: Tensor, colour: Tensor, drawn: Tensor) -> None:
        """Trains the discriminator by one step."""
        real = self.discriminator(torch.cat([outline, colour], dim=1))
        fake = self.discriminator(torch.cat([outline, drawn.detach()], dim=1))
        self.learner.step(self.tells(real, fake))

    def loss(self, outline: Tensor, drawn: Tensor) -> Tensor:
        """Returns the loss of the generator."""
        return self.fools(self.discriminator(torch.cat([outline, drawn], dim=1)))


def train(generator: nn.Module, discriminator: nn.Module, course: Course) -> None:
    """Trains a generator as pix2pix does."""
    adversary = Adversary(discriminator, course.steps)
    learner = Learner(generator.parameters(), RATE, course.steps)
    recon, objective = ReconstructionLoss(), Weighted(gan=1.0, recon=RECON)
    generator.train()
    for outline, colour in course:
        drawn = generator(outline)
        adversary.learn(outline, colour, drawn)
        total, _ = objective(gan=adversary.loss(outline, drawn), recon=recon(drawn, colour))
        learner.step(total)
    generator.eval()


def patch_discriminator(seed: int, width: int = 16) -> nn.Sequential:
    """Builds a discriminator of patches, which sees outline and drawing: (N, 6, H, W)."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in ((6, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 3, padding=1))


@torch.no_grad()
def drawn_by(model: nn.Module, outlines: Tensor) -> Tensor:
    """Runs a model on many outlines, some at a time."""
    return torch.cat([model(some) for some in outlines.split(32)])


@dataclass(frozen=True)
class Score:
    """How far drawings are from the artists'."""

    l1: float  # mean absolute error, images in [-1, 1]
    frechet: float  # Fréchet distance


class Scorer:
    """Has models colour the held-out outlines, and measures the drawings."""

    def __init__(self, data: Pairs, steps: int) -> None:
        self.data = data
        # the lines are all alike: what counts is the colours between them
        fills = data.colours - data.outlines
        encoder = train_encoder(data.colours, fills, steps)
        self.frechet = distance_to(encoder, data.held_colours)

    def __call__(self, model: nn.Module) -> Score:
        """Measures what a model draws."""
        drawn = drawn_by(model, self.data.held_outlines)
        self.frechet.reset()  # forgets all but the artists' drawings
        self.frechet.update(drawn, real=False)
        l1 = F.l1_loss(drawn, self.data.held_colours)
        return Score(float(l1), float(self.frechet.compute()))
