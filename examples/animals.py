"""Silhouettes of ten kinds of animals.

The pictures are those of the package animal-mnist (MIT licence): 10,000 of 28x28 grey pixels.
Install it without its dependencies, which it needs for its benchmark only:

    pip install --no-deps animal-mnist==0.4
"""

import gzip
import pickle
from dataclasses import dataclass
from importlib import resources
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Animals", "animals"]

HELD_OUT = 2000  # pictures that nothing is trained on


@dataclass(frozen=True)
class Animals:
    """Pictures of (N, 1, 32, 32) in [-1, 1]."""

    pictures: Tensor
    held_pictures: Tensor  # not among the others


def animals(most: int | None = None) -> Animals:
    """Reads the pictures, adds a margin of two pixels, and sets some apart; `most` of each.

    Raises: SystemExit, with the command to run, if the package is not installed.
    """
    pixels = torch.from_numpy(_pixels())
    pictures = F.pad(pixels.unsqueeze(1).float() / 127.5 - 1, (2, 2, 2, 2), value=-1.0)
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0))
    rest, held = order[HELD_OUT:][:most], order[:HELD_OUT][:most]
    return Animals(pictures[rest], pictures[held])


def _pixels() -> Any:
    try:
        folder = resources.files("animal_mnist") / "data" / "Animal_MNIST"
    except ImportError as error:
        raise SystemExit(
            "the pictures are those of the package animal-mnist, and none of its dependencies is "
            "needed:\n    pip install --no-deps animal-mnist==0.4"
        ) from error
    with (folder / "animal_data_version_3.gz").open("rb") as file, gzip.open(file) as unpacked:
        return pickle.load(unpacked)  # a pickle is code, as all of an installed package is
