"""Silhouettes of ten kinds of animals, and features of theirs for a Fréchet distance.

The pictures are those of the package animal-mnist (MIT licence): 10,000 of 28x28 grey pixels.
Install it without its dependencies, which it needs for its benchmark only:

    pip install --no-deps animal-mnist==0.4
"""

import gzip
import pickle
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor, nn

__all__ = ["Animals", "Classifier", "animals", "train_classifier"]

HELD_OUT = 2000  # pictures that nothing is trained on
WIDTHS = (1, 16, 32, 64)


@dataclass(frozen=True)
class Animals:
    """Pictures of (N, 1, 32, 32) in [-1, 1], and the number of each one's animal, (N,)."""

    pictures: Tensor
    kinds: Tensor
    held_pictures: Tensor  # not among the others
    held_kinds: Tensor


def animals() -> Animals:
    """Reads the pictures, adds a margin of two pixels, and sets some apart.

    Raises: SystemExit, with the command to run, if the package is not installed.
    """
    pixels, kinds = (torch.from_numpy(_read(what)) for what in ("data", "label"))
    pictures = F.pad(pixels.unsqueeze(1).float() / 127.5 - 1, (2, 2, 2, 2), value=-1.0)
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0))
    rest, held = order[HELD_OUT:], order[:HELD_OUT]
    return Animals(pictures[rest], kinds[rest], pictures[held], kinds[held])


def _read(what: str) -> Any:
    try:
        folder = resources.files("animal_mnist") / "data" / "Animal_MNIST"
    except ImportError as error:
        raise SystemExit(
            "the pictures are those of the package animal-mnist, and none of its dependencies is "
            "needed:\n    pip install --no-deps animal-mnist==0.4"
        ) from error
    with (folder / f"animal_{what}_version_3.gz").open("rb") as file, gzip.open(file) as unpacked:
        return pickle.load(unpacked)  # a pickle is code, as all of an installed package is


class Classifier(nn.Module):
    """Tells the animals apart; what it tells them by are the features.

    Shapes: (N, 1, 32, 32) in [-1, 1] -> (N, num_features).
    """

    num_features = WIDTHS[-1]

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(WIDTHS):
            conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(self.num_features, 10)

    def forward(self, pictures: Tensor) -> Tensor:
        """Describes pictures by features."""
        features: Tensor = self.layers(pictures)
        return features


def train_classifier(data: Animals, steps: int, batch: int = 128) -> Classifier:
    """Trains a classifier, and tells how many of the held-out pictures it gets right."""
    torch.manual_seed(0)
    net = Classifier()
    optimizer = torch.optim.Adam(net.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=steps)
    for _ in track(range(steps), f"features of the Fréchet distance, {steps} steps"):
        some = torch.randint(len(data.pictures), (batch,))
        loss = F.cross_entropy(net.head(net(data.pictures[some])), data.kinds[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    return net.eval().requires_grad_(False)
