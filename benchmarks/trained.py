"""Trains the small generators that the benchmarks of repair look at, and keeps their weights.

    python benchmarks/trained.py                trains them now, with the default budget

Training has a fixed seed and a fixed number of steps on one thread; the weights are kept under a
name that says all they follow from (see `cache.py`).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from cache import kept, key, progress
from openmoji import Pairs, pairs
from photographs import patches
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import gfx

__all__ = ["DEBLUR_STEPS", "STEPS", "blurred", "deblurring", "once", "pix2pix"]

STEPS = 2400  # of pix2pix; about ten minutes on one core
DEBLUR_STEPS = 400  # of the deblurring net; one to two minutes on one core
BATCH = 16
L1_WEIGHT = 100.0  # of the L1 loss beside the adversarial one, as in the paper


def pix2pix(steps: int = STEPS, **options: int) -> nn.Module:
    """Returns a ResNet generator trained to colour the outlines of OpenMoji, in eval mode.

    Args:
        steps: of training.
        options: of the zoo's resnet_9blocks.

    Source: Isola et al. 2017, arXiv:1611.07004, eq. 4 (conditional adversarial loss and 100 L1),
    with the least-squares loss of Mao et al. 2017, arXiv:1611.04076.
    """
    settings = {"ngf": 16, "n_blocks": 6, "image_size": 64, **options}
    torch.manual_seed(0)
    model = gfx.zoo.build("resnet_9blocks", **settings)
    facts = {"what": "pix2pix on openmoji", "steps": steps, "batch": BATCH, **settings}
    return once(facts, model, lambda: _train(model, pairs(settings["image_size"]), steps))


class Deblurring(nn.Module):
    """Adds to a blurred image what eight convolutions make of it; six are 48 to 48 channels."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        inner: list[nn.Module] = []
        for _ in range(6):
            inner += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU())
        self.body = nn.Sequential(*inner)
        self.head = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Sharpens images of (N, 3, H, W)."""
        return x + self.head(self.body(self.stem(x)))


def blurred(images: Tensor, sigma: float = 1.5) -> Tensor:
    """Blurs images by a Gaussian of `sigma` pixels."""
    steps = torch.arange(-4.0, 5.0)
    kernel = torch.exp(-(steps**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, 9)
    wide = F.pad(images, (4, 4, 4, 4), mode="reflect")
    return F.conv2d(F.conv2d(wide, kernel, groups=3), kernel.transpose(2, 3), groups=3)


def deblurring(steps: int = DEBLUR_STEPS) -> nn.Module:
    """Returns a small net trained to sharpen photographs, in eval mode."""
    torch.manual_seed(0)
    model = Deblurring()

    def train() -> None:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for step in progress(range(steps), f"training a deblurring net ({steps} steps)"):
            optimizer.param_groups[0]["lr"] = 1e-3 * (1 + math.cos(math.pi * step / steps)) / 2
            sharp = patches(BATCH, 32, seed=step)
            _step(optimizer, F.mse_loss(model(blurred(sharp)), sharp))

    return once({"what": "deblurring photographs", "steps": steps, "batch": BATCH}, model, train)


def once(facts: dict[str, Any], model: nn.Module, train: Callable[[], None]) -> nn.Module:
    """Gives a model the weights that are kept under these facts; trains it first if none are."""

    def make(path: Any) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # sums in another order would give other weights
        train()
        torch.set_num_threads(threads)
        save_file(model.state_dict(), path)

    model.load_state_dict(kept(f"{key(facts)}.safetensors", make, load_file))
    return model.eval().requires_grad_(False)


def _train(model: nn.Module, data: Pairs, steps: int) -> None:
    """Trains a generator against a discriminator of patches."""
    judge = nn.Sequential(
        *_halving(6, 16), *_halving(16, 32), *_halving(32, 64), nn.Conv2d(64, 1, 3, padding=1)
    )
    model.train()
    maker = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.5, 0.999))
    critic = torch.optim.Adam(judge.parameters(), lr=2e-4, betas=(0.5, 0.999))
    generator = torch.Generator().manual_seed(0)
    for step in progress(range(steps), f"training a pix2pix generator ({steps} steps)"):
        maker.param_groups[0]["lr"] = 1e-3 * (1 + math.cos(math.pi * step / steps)) / 2
        outline, colour = _batch(data, generator)
        drawn = model(outline)
        seen = judge(torch.cat([outline, drawn.detach()], dim=1))
        real = judge(torch.cat([outline, colour], dim=1))
        _step(critic, (real - 1).square().mean() + seen.square().mean())
        seen = judge(torch.cat([outline, drawn], dim=1))
        _step(maker, (seen - 1).square().mean() + L1_WEIGHT * F.l1_loss(drawn, colour))


def _halving(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]


def _batch(data: Pairs, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draws some pairs, half of them mirrored."""
    chosen = torch.randint(len(data.outlines), (BATCH,), generator=generator)
    mirrored = torch.rand(BATCH, generator=generator) < 0.5
    mirrored = mirrored[:, None, None, None]
    outline, colour = data.outlines[chosen], data.colours[chosen]
    return (
        torch.where(mirrored, outline.flip(3), outline),
        torch.where(mirrored, colour.flip(3), colour),
    )


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def main() -> None:
    """Trains the generator."""
    model, data = pix2pix(), pairs()
    with torch.no_grad():
        error = F.l1_loss(model(data.held_outlines), data.held_colours)
        blank = F.l1_loss(data.held_outlines, data.held_colours)
    print(f"mean error of a held-out pixel: {error:.3f} (the outline itself: {blank:.3f})")


if __name__ == "__main__":
    main()
