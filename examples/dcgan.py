"""Trains generators that draw animals from noise, as DCGAN does, and measures what they draw.

Nothing here knows of compression: it stands for the loop that you have.

Source: Radford et al. 2016, arXiv:1511.06434 (DCGAN); Goodfellow et al. 2014, arXiv:1406.2661
(the loss).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from animals import Animals, train_classifier
from common import picture, spread
from frechet import distance_to
from PIL import Image
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

import gfx
from gfx.train.losses import DiscriminatorLoss, GeneratorLoss

__all__ = [
    "Course",
    "Score",
    "Scorer",
    "Scores",
    "adam",
    "descend",
    "drawn_by",
    "fools",
    "new_discriminator",
    "new_generator",
    "noise",
    "pictured",
    "results",
    "tells",
    "train",
    "verdict",
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


Scores = Mapping[str, Sequence[Score]]  # of several seeds, by the name of the generator


def results(
    nets: Mapping[str, nn.Module], steps: Mapping[str, int], scores: Scores, title: str
) -> Table:
    """Writes what generators cost and their scores: mean and standard deviation of the seeds."""
    table = Table("generator", "steps", "MACs", "nonzero", "Fréchet", "pixel", title=title)
    for name, net in nets.items():
        table.add_row(
            name,
            f"{steps[name]:,}",
            f"{gfx.cost(net).macs.exact / 1e6:.2f} M",
            f"{sum(int(weight.count_nonzero()) for weight in net.parameters()):,}",
            spread([score.frechet for score in scores[name]], 2),
            spread([score.change for score in scores[name]], 3),
        )
    return table


def verdict(scores: Scores, better: str, worse: str) -> str:
    """Says for how many seeds one way ended nearer to the held-out pictures than another."""
    pairs = list(zip(scores[better], scores[worse], strict=True))
    wins = sum(one.frechet < other.frechet for one, other in pairs)
    return f"'{better}' beats '{worse}' for {wins} of {len(pairs)} seeds"


def pictured(nets: Sequence[nn.Module], latents: Tensor) -> Image.Image:
    """Draws noise, the pictures of the first net, and of each other and ten times the difference.

    All of it three times as large; a pixel that does not differ is grey.
    """
    first, *others = (drawn_by(net, latents) for net in nets)
    rows = [F.interpolate(latents.view(-1, 1, 8, 8) / 3, size=first.shape[-1]), first]
    for made in others:
        rows += [made, 10 * (made - first)]
    image = picture([row.expand(-1, 3, -1, -1) for row in rows])
    return image.resize((3 * image.width, 3 * image.height), Image.Resampling.NEAREST)
