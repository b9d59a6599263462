"""SRResNet, the generator of SRGAN: super-resolution by residual blocks and pixel shuffle.

Source: Ledig et al. 2017, arXiv:1609.04802, section 2.1.1 and figure 4.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from gfx.zoo.building_blocks import sequence
from gfx.zoo.spec import Spec, normal


@dataclass(frozen=True)
class Srresnet(Spec):
    """SRGAN generator: sixteen residual blocks, then pixel shuffles to `scale` times the size.

    Shapes: (N, channels, H, W) -> (N, channels, scale*H, scale*W).
    Raises: InputError if an option is out of range.
    Source: Ledig et al. 2017, arXiv:1609.04802, figure 4.
    """

    name: ClassVar[str] = "srresnet"

    ngf: int = 64  # channels of the residual stream
    n_blocks: int = 16  # residual blocks
    scale: int = 4  # a power of two, at least 2: how much larger the output is
    channels: int = 3
    image_size: int = 24  # pixels, of the low-resolution example input

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_power_of_two("scale", least=2)

    def build(self) -> nn.Module:
        """Builds the generator."""
        doublings = self.scale.bit_length() - 1
        return SrresnetGenerator(self.channels, self.ngf, self.n_blocks, doublings)

    def inputs(self, batch: int) -> tuple[Tensor, ...]:
        """Makes a low-resolution image."""
        return (normal(batch, self.channels, self.image_size, self.image_size),)


class SrresnetGenerator(nn.Module):
    """Stem, residual blocks inside one long skip, pixel shuffles, a 9x9 convolution to RGB."""

    image_range: ClassVar = (0.0, 1.0)  # of the small images, as section 3.2 of the paper has them

    def __init__(self, channels: int, width: int, n_blocks: int, doublings: int) -> None:
        super().__init__()
        self.stem = sequence(conv=nn.Conv2d(channels, width, 9, padding=4), act=nn.PReLU())
        self.blocks = nn.Sequential(*(SRResidualBlock(width) for _ in range(n_blocks)))
        self.merge = sequence(
            conv=nn.Conv2d(width, width, 3, padding=1), norm=nn.BatchNorm2d(width)
        )
        self.up = nn.Sequential(*(_up(width) for _ in range(doublings)))
        self.to_rgb = nn.Conv2d(width, channels, 9, padding=4)

    def forward(self, image: Tensor) -> Tensor:
        """Enlarges an image."""
        features = self.stem(image)
        features = features + self.merge(self.blocks(features))
        rgb: Tensor = self.to_rgb(self.up(features))
        return rgb


class SRResidualBlock(nn.Module):
    """Adds two 3x3 convolutions with batch norms to the stream."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(width)
        self.act = nn.PReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Adds the branch to what came in."""
        branch: Tensor = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        return x + branch


def _up(width: int) -> nn.Sequential:
    return sequence(
        conv=nn.Conv2d(width, 4 * width, 3, padding=1), shuffle=nn.PixelShuffle(2), act=nn.PReLU()
    )
