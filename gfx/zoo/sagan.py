"""SAGAN: a DCGAN-like generator with spectral norm and two self-attentions.

Source: Zhang et al. 2019, arXiv:1805.08318, sections 3 and 4.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gfx.zoo.building_blocks import sequence
from gfx.zoo.spec import Spec, normal


@dataclass(frozen=True)
class Sagan(Spec):
    """SAGAN generator, 64x64: transposed convolutions, self-attention at 16x16 and at 32x32.

    Shapes: (N, z_dim) -> (N, out_channels, 64, 64).
    Raises: InputError if an option is out of range.
    Source: Zhang et al. 2019, arXiv:1805.08318, sections 3 and 4.
    """

    name: ClassVar[str] = "sagan"

    ngf: int = 64  # channels before the last stage; at least 8, an attention key has an eighth
    z_dim: int = 128
    out_channels: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least("ngf", 8)

    def build(self) -> nn.Module:
        """Builds the generator."""
        return SaganGenerator(self.z_dim, self.ngf, self.out_channels)

    def inputs(self, batch: int) -> tuple[Tensor, ...]:
        """Makes a latent vector."""
        return (normal(batch, self.z_dim),)


class SaganGenerator(nn.Module):
    """Projects the latent to 4x4, doubles it four times, attends after the second and third."""

    def __init__(self, z_dim: int, ngf: int, outputs: int) -> None:
        super().__init__()
        self.project = _stage(nn.ConvTranspose2d(z_dim, 8 * ngf, 4))
        self.up = nn.Sequential(
            _stage(nn.ConvTranspose2d(8 * ngf, 4 * ngf, 4, 2, 1)),
            _stage(nn.ConvTranspose2d(4 * ngf, 2 * ngf, 4, 2, 1)),
            SaganAttention(2 * ngf),
            _stage(nn.ConvTranspose2d(2 * ngf, ngf, 4, 2, 1)),
            SaganAttention(ngf),
        )
        self.to_rgb = nn.ConvTranspose2d(ngf, outputs, 4, 2, 1)
        self.tanh = nn.Tanh()

    def forward(self, z: Tensor) -> Tensor:
        """Generates an image."""
        latent = z.view(z.size(0), z.size(1), 1, 1)
        image: Tensor = self.tanh(self.to_rgb(self.up(self.project(latent))))
        return image


class SaganAttention(nn.Module):
    """Adds to every position a mix of all positions, weighted by how queries meet keys.

    `gain` starts at 0, as in the paper: the attention is learnt in, step by step.

    Shapes: (N, C, H, W) -> (N, C, H, W).
    Source: Zhang et al. 2019, arXiv:1805.08318, section 3, figure 2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 8, 1)
        self.key = nn.Conv2d(channels, channels // 8, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Attends over all positions."""
        positions = x.size(2) * x.size(3)
        query = self.query(x).view(x.size(0), -1, positions)
        key = self.key(x).view(x.size(0), -1, positions)
        value = self.value(x).view(x.size(0), -1, positions)
        weights = torch.softmax(torch.bmm(query.transpose(1, 2), key), dim=-1)
        mixed = torch.bmm(value, weights.transpose(1, 2))
        mixed = mixed.view(x.size(0), x.size(1), x.size(2), x.size(3))
        attended: Tensor = x + self.gain * mixed
        return attended


def _stage(conv: nn.ConvTranspose2d) -> nn.Sequential:
    return sequence(conv=spectral_norm(conv), norm=nn.BatchNorm2d(conv.out_channels), act=nn.ReLU())
