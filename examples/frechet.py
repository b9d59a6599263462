"""A Fréchet distance between sets of images, with features of a net that is trained here.

It is what FID is, with other features: the weights of the Inception net that FID is defined by are
fetched from the internet. So it says which of two sets is nearer to a third one, and cannot be
compared with any FID that was published.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor, nn

__all__ = ["Encoder", "distance_to", "train_encoder"]

WIDTHS = (3, 16, 32, 64, 64)


class Encoder(nn.Module):
    """Describes images of 64x64 pixels by a few numbers.

    Shapes: (N, 3, 64, 64) in [-1, 1] -> (N, num_features).
    """

    num_features = 32  # a covariance of more would need more than some hundred images

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(WIDTHS):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, self.num_features))

    def forward(self, images: Tensor) -> Tensor:
        """Describes images."""
        features: Tensor = self.layers(images)
        return features


def train_encoder(
    images: Tensor, targets: Tensor, steps: int, batch: int = 32, seed: int = 0
) -> Encoder:
    """Trains an encoder whose numbers are enough for a decoder to draw the targets.

    Shapes: images and targets are (N, 3, 64, 64); a target may be what matters of its image.
    """
    torch.manual_seed(seed)
    encoder, decoder = Encoder(), _decoder()
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=2e-3)
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for _ in track(range(steps), f"features of the Fréchet distance, {steps} steps"):
        chosen = torch.randint(len(images), (batch,))
        loss = F.mse_loss(decoder(encoder(images[chosen])), targets[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    return encoder.eval().requires_grad_(False)


def distance_to(features: nn.Module, real: Tensor) -> Any:
    """Returns a FrechetInceptionDistance of torchmetrics that remembers real images.

    Update it with others, compute, and reset it before the next ones. The features are the outputs
    of a net, (N, num_features), which is an attribute of it.

    Raises: SystemExit, with the command to run, if torchmetrics is not installed.
    """
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
    except ImportError as error:
        raise SystemExit(
            "the Fréchet distance needs the package torchmetrics, which the extra examples "
            "installs:\n    pip install 'gfx-compiler[examples]'"
        ) from error
    metric = FrechetInceptionDistance(feature=features, reset_real_features=False)
    metric.update(real, real=True)
    return metric


def _decoder() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(Encoder.num_features, 1024), nn.Unflatten(1, (64, 4, 4))]
    for inputs, outputs in pairwise(reversed(WIDTHS)):
        layers += [nn.LeakyReLU(0.2), nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)]
    return nn.Sequential(*layers)
