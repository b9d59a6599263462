"""SRGAN discriminator: eight 3x3 convolutions as in VGG, then two linears to one score.

Source: Ledig et al. 2017, arXiv:1609.04802, section 2.1.1 and figure 4.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from gfx.zoo.building_blocks import sequence
from gfx.zoo.discriminator.discriminator_spec import DiscriminatorSpec


@dataclass(frozen=True)
class SrganDiscriminatorSpec(DiscriminatorSpec):
    """SRGAN discriminator: one score for a crop of a high-resolution image.

    Shapes: (N, input_nc, image_size, image_size) -> (N, 1).
    Raises: InputError if an option is out of range.
    Source: Ledig et al. 2017, arXiv:1609.04802, figure 4.
    """

    name: ClassVar[str] = "srgan_discriminator"

    input_nc: int = 3
    ndf: int = 64  # channels of the first two layers, doubled three times
    hidden: int = 1024  # width of the linear before the score
    image_size: int = 96  # pixels: a multiple of 16
    init: str = "default"  # the paper names none

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_multiple("image_size", 16)

    def network(self) -> nn.Module:
        """Makes the layers."""
        widths = [self.ndf * 2**step for step in range(4)]
        return SrganDiscriminator(self.input_nc, widths, self.hidden, self.image_size // 16)


class SrganDiscriminator(nn.Module):
    """Pairs of 3x3 convolutions, the second of stride 2; a batch norm after all but the first."""

    def __init__(self, inputs: int, widths: list[int], hidden: int, rest: int) -> None:
        super().__init__()
        self.first = sequence(
            conv=nn.Conv2d(inputs, widths[0], 3, padding=1), act=nn.LeakyReLU(0.2)
        )
        layers = [_layer(widths[0], widths[0], 2)]
        for before, after in pairwise(widths):
            layers += [_layer(before, after, 1), _layer(after, after, 2)]
        self.layers = nn.Sequential(*layers)
        self.flatten = nn.Flatten()
        self.hidden = nn.Linear(widths[-1] * rest * rest, hidden)
        self.act = nn.LeakyReLU(0.2)
        self.score = nn.Linear(hidden, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Scores an image."""
        features = self.flatten(self.layers(self.first(image)))
        scores: Tensor = self.score(self.act(self.hidden(features)))
        return scores


def _layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return sequence(
        conv=nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        norm=nn.BatchNorm2d(outputs),
        act=nn.LeakyReLU(0.2),
    )
