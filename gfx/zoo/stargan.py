"""StarGAN: one generator for many domains; a label vector selects the domain.

Source: Choi et al. 2018, arXiv:1711.09020, appendix 7.2, table 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gfx.zoo.building_blocks import sequence
from gfx.zoo.spec import Spec, integers, normal


@dataclass(frozen=True)
class Stargan(Spec):
    """StarGAN generator: an image and a label vector in, the image in that domain out.

    Shapes: (N, in_channels, H, W) and (N, n_labels) -> (N, out_channels, H, W), H and W multiples
    of 4.
    Raises: InputError if an option is out of range.
    Source: Choi et al. 2018, arXiv:1711.09020, table 4.
    """

    name: ClassVar[str] = "stargan"

    ngf: int = 64  # channels of the stem, doubled by each of two down-samplings
    n_blocks: int = 6  # residual blocks
    n_labels: int = 5
    in_channels: int = 3
    out_channels: int = 3
    image_size: int = 128  # pixels, of the example input; a multiple of 4

    def __post_init__(self) -> None:
        super().__post_init__()
        # at 4 pixels the residual stream has one, and nothing to normalise by
        self.require_at_least("image_size", 8)
        self.require_multiple("image_size", 4)

    def build(self) -> nn.Module:
        """Builds the generator."""
        widths = (self.ngf, 2 * self.ngf, 4 * self.ngf)
        inputs = self.in_channels + self.n_labels
        return StarganGenerator(inputs, self.out_channels, widths, self.n_blocks)

    def inputs(self, batch: int) -> tuple[Tensor, ...]:
        """Makes an image and a vector of zeros and ones."""
        image = normal(batch, self.in_channels, self.image_size, self.image_size)
        return image, integers(2, batch, self.n_labels).to(image.dtype)


class StarganGenerator(nn.Module):
    """Concatenates image and spread labels, then down, residual blocks, up, RGB."""

    def __init__(self, inputs: int, outputs: int, widths: Sequence[int], n_blocks: int) -> None:
        super().__init__()
        stem, middle, stream = widths
        self.stem = _stage(nn.Conv2d(inputs, stem, 7, padding=3, bias=False))
        self.down = nn.Sequential(
            _stage(nn.Conv2d(stem, middle, 4, 2, 1, bias=False)),
            _stage(nn.Conv2d(middle, stream, 4, 2, 1, bias=False)),
        )
        self.blocks = nn.Sequential(*(StarGanResidualBlock(stream) for _ in range(n_blocks)))
        self.up = nn.Sequential(
            _stage(nn.ConvTranspose2d(stream, middle, 4, 2, 1, bias=False)),
            _stage(nn.ConvTranspose2d(middle, stem, 4, 2, 1, bias=False)),
        )
        self.to_rgb = nn.Conv2d(stem, outputs, 7, padding=3, bias=False)
        self.tanh = nn.Tanh()

    def forward(self, image: Tensor, labels: Tensor) -> Tensor:
        """Translates an image to the domain of the labels."""
        planes = labels.view(labels.size(0), labels.size(1), 1, 1)
        planes = planes.expand(-1, -1, image.size(2), image.size(3))
        features = self.stem(torch.cat([image, planes], dim=1))
        features = self.up(self.blocks(self.down(features)))
        rgb: Tensor = self.tanh(self.to_rgb(features))
        return rgb


class StarGanResidualBlock(nn.Module):
    """Adds two 3x3 convolutions with affine instance norms to the stream."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.InstanceNorm2d(channels, affine=True)
        self.act = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """Adds the branch to what came in."""
        branch: Tensor = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        return x + branch


def _stage(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    norm = nn.InstanceNorm2d(conv.out_channels, affine=True)
    return sequence(conv=conv, norm=norm, act=nn.ReLU())
