"""DCGAN discriminator: strided convolutions from the image to one score.

Source: Radford et al. 2016, arXiv:1511.06434, section 3 (strided convolutions, batch norm but in
the first layer, LeakyReLU 0.2).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from gfx.zoo.building_blocks import sequence
from gfx.zoo.discriminator.discriminator_spec import DiscriminatorSpec


@dataclass(frozen=True)
class DcganDiscriminatorSpec(DiscriminatorSpec):
    """DCGAN discriminator: one score for an image, each stage half the size, twice the channels.

    Shapes: (N, input_nc, image_size, image_size) -> (N, 1).
    Raises: InputError if an option is out of range.
    Source: Radford et al. 2016, arXiv:1511.06434, section 3.
    """

    name: ClassVar[str] = "dcgan_discriminator"

    input_nc: int = 3
    ndf: int = 64  # channels of the first stage
    image_size: int = 64  # pixels: a power of two, at least 8
    init: str = "normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_power_of_two("image_size", least=8)

    def network(self) -> nn.Module:
        """Makes the layers."""
        stages = self.image_size.bit_length() - 3  # image_size/2 -> 4x4
        return DcganDiscriminator(self.input_nc, [self.ndf * 2**step for step in range(stages)])


class DcganDiscriminator(nn.Module):
    """Halves the image down to 4x4, then scores it by one convolution."""

    def __init__(self, inputs: int, widths: list[int]) -> None:
        super().__init__()
        first = nn.Conv2d(inputs, widths[0], 4, 2, 1, bias=False)
        self.first = sequence(conv=first, act=nn.LeakyReLU(0.2))
        self.down = nn.Sequential(*(_down(*pair) for pair in pairwise(widths)))
        self.score = nn.Conv2d(widths[-1], 1, 4, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """Scores an image."""
        scores: Tensor = self.score(self.down(self.first(image)))
        return scores.view(image.size(0), 1)


def _down(inputs: int, outputs: int) -> nn.Sequential:
    return sequence(
        conv=nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False),
        norm=nn.BatchNorm2d(outputs),
        act=nn.LeakyReLU(0.2),
    )
