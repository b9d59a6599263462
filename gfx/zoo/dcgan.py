"""DCGAN: a latent vector becomes an image by transposed convolutions.

Source: Radford et al. 2016, arXiv:1511.06434, section 3 and figure 1.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from gfx.zoo.building_blocks import sequence
from gfx.zoo.spec import Spec, normal


@dataclass(frozen=True)
class Dcgan(Spec):
    """DCGAN generator: latent map to image, each stage twice the size and half the channels.

    Shapes: (N, z_dim, 1, 1) -> (N, out_channels, image_size, image_size).
    Raises: InputError if an option is out of range.
    Source: Radford et al. 2016, arXiv:1511.06434, figure 1.
    """

    name: ClassVar[str] = "dcgan"

    ngf: int = 64  # channels before the last stage
    z_dim: int = 100
    out_channels: int = 3
    image_size: int = 64  # pixels: a power of two, at least 8

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_power_of_two("image_size", least=8)

    def build(self) -> nn.Module:
        """Builds the generator."""
        stages = self.image_size.bit_length() - 3  # 4x4 -> image_size/2
        widths = [self.ngf * 2**step for step in reversed(range(stages))]
        return DcganGenerator(self.z_dim, widths, self.out_channels)

    def inputs(self, batch: int) -> tuple[Tensor, ...]:
        """Makes a latent map."""
        return (normal(batch, self.z_dim, 1, 1),)


class DcganGenerator(nn.Module):
    """Projects the latent map to 4x4, doubles it stage by stage, ends in RGB."""

    def __init__(self, z_dim: int, widths: list[int], outputs: int) -> None:
        super().__init__()
        self.project = sequence(
            conv=nn.ConvTranspose2d(z_dim, widths[0], 4, bias=False),
            norm=nn.BatchNorm2d(widths[0]),
            act=nn.ReLU(),
        )
        self.up = nn.Sequential(*(_up(*pair) for pair in pairwise(widths)))
        self.to_rgb = nn.ConvTranspose2d(widths[-1], outputs, 4, 2, 1, bias=False)
        self.tanh = nn.Tanh()

    def forward(self, z: Tensor) -> Tensor:
        """Generates an image."""
        image: Tensor = self.tanh(self.to_rgb(self.up(self.project(z))))
        return image


def _up(inputs: int, outputs: int) -> nn.Sequential:
    return sequence(
        conv=nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False),
        norm=nn.BatchNorm2d(outputs),
        act=nn.ReLU(),
    )
