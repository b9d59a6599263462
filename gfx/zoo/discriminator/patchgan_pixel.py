"""PixelGAN: a PatchGAN whose patches are single pixels, so that it judges colours alone.

Source: Isola et al. 2017, arXiv:1611.07004, section 4.4 and appendix 6.1.2 (1x1 discriminator:
C64-C128 with 1x1 convolutions).
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from gfx.zoo.building_blocks import sequence
from gfx.zoo.discriminator.discriminator_spec import DiscriminatorSpec
from gfx.zoo.discriminator.patchgan import NORMS


@dataclass(frozen=True)
class PatchganPixel(DiscriminatorSpec):
    """PixelGAN discriminator: a score for each pixel by itself.

    Shapes: (N, input_nc, H, W) -> (N, 1, H, W).
    Raises: InputError if an option is out of range.
    Source: Isola et al. 2017, arXiv:1611.07004, appendix 6.1.2.
    """

    name: ClassVar[str] = "patchgan_pixel"

    input_nc: int = 3  # 6 for pairs
    ndf: int = 64  # channels of the first layer; the second has twice as many
    norm: str = "instance"  # instance (CycleGAN), batch (pix2pix) or none
    image_size: int = 256  # pixels, of the example input
    init: str = "normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_choice("norm", NORMS)
        self.require_at_least("image_size", 2)

    def network(self) -> nn.Module:
        """Makes the layers."""
        return PixelDiscriminator(self.input_nc, self.ndf, self.norm)


class PixelDiscriminator(nn.Module):
    """Three 1x1 convolutions."""

    def __init__(self, inputs: int, ndf: int, norm: str) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            sequence(conv=nn.Conv2d(inputs, ndf, 1), act=nn.LeakyReLU(0.2)),
            sequence(
                conv=nn.Conv2d(ndf, 2 * ndf, 1, bias=norm != "batch"),
                norm=NORMS[norm](2 * ndf),
                act=nn.LeakyReLU(0.2),
            ),
        )
        self.score = nn.Conv2d(2 * ndf, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Scores the pixels of an image."""
        scores: Tensor = self.score(self.layers(image))
        return scores
