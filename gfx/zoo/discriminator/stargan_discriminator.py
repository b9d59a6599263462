"""StarGAN discriminator: real or fake for each patch, and the domain of the image.

Source: Choi et al. 2018, arXiv:1711.09020, appendix 7.2, table 5.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from gfx.zoo.building_blocks import sequence
from gfx.zoo.discriminator.discriminator_spec import DiscriminatorSpec


@dataclass(frozen=True)
class StarganDiscriminatorSpec(DiscriminatorSpec):
    """StarGAN discriminator: returns the scores of patches and the logits of the labels.

    Shapes: (N, input_nc, image_size, image_size) -> (N, 1, h, h) and (N, n_labels), with
    h = image_size / 2**n_layers.
    Raises: InputError if an option is out of range.
    Source: Choi et al. 2018, arXiv:1711.09020, table 5.
    """

    name: ClassVar[str] = "stargan_discriminator"

    input_nc: int = 3
    ndf: int = 64  # channels of the first layer, doubled by each
    n_layers: int = 6  # convolutions of stride 2
    n_labels: int = 5
    image_size: int = 128  # pixels: a multiple of 2**n_layers
    init: str = "default"  # the paper names none

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_layers > 10:
            raise self.error(f"n_layers is {self.n_layers}; give at most 10")
        self.require_multiple("image_size", 2**self.n_layers)

    def network(self) -> nn.Module:
        """Makes the layers."""
        widths = [self.ndf * 2**step for step in range(self.n_layers)]
        rest = self.image_size // 2**self.n_layers
        return StarganDiscriminator(self.input_nc, widths, self.n_labels, rest)


class StarganDiscriminator(nn.Module):
    """Halves the image layer by layer, then two heads: source and classes."""

    def __init__(self, inputs: int, widths: list[int], n_labels: int, rest: int) -> None:
        super().__init__()
        self.down = nn.Sequential(
            *(
                sequence(conv=nn.Conv2d(before, after, 4, 2, 1), act=nn.LeakyReLU(0.01))
                for before, after in pairwise([inputs, *widths])
            )
        )
        self.source = nn.Conv2d(widths[-1], 1, 3, padding=1, bias=False)
        self.classes = nn.Conv2d(widths[-1], n_labels, rest, bias=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Scores an image, and tells its labels."""
        features = self.down(image)
        labels = self.classes(features)
        return self.source(features), labels.view(labels.size(0), labels.size(1))
