"""PatchGAN, the discriminator of pix2pix and CycleGAN: one score for each patch of the image.

Source
  Isola et al. 2017, arXiv:1611.07004, section 3.2.2 and appendix 6.1.2 (C64-C128-C256-C512 sees
  patches of 70x70; batch norm, none in the first layer);
  Zhu et al. 2017, arXiv:1703.10593, section 7.2 (the same with instance norm).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

from torch import Tensor, nn

from gfx.zoo.building_blocks import sequence
from gfx.zoo.discriminator.discriminator_spec import DiscriminatorSpec

NORMS: Final[dict[str, Callable[[int], nn.Module]]] = {
    "instance": nn.InstanceNorm2d,
    "batch": nn.BatchNorm2d,
    "none": lambda channels: nn.Identity(),
}
# after so many down-samplings a PatchGAN grows no wider
WIDEST: Final = 8


@dataclass(frozen=True)
class Patchgan(DiscriminatorSpec):
    """PatchGAN discriminator: a map of scores, each of a patch of 70x70 pixels.

    With n_layers of 1, 2, 3, 4, 5 a score sees 16, 34, 70, 142, 286 pixels. For pairs, the source
    image and its translation come as one image of 6 channels: input_nc is 6.

    Shapes: (N, input_nc, H, W) -> (N, 1, H / 2**n_layers - 2, W / 2**n_layers - 2).
    Raises: InputError if an option is out of range.
    Source: Isola et al. 2017, arXiv:1611.07004, section 3.2.2, appendix 6.1.2.
    """

    name: ClassVar[str] = "patchgan"

    input_nc: int = 3  # 6 for pairs
    ndf: int = 64  # channels of the first layer, doubled by each layer up to 8 times as many
    n_layers: int = 3  # convolutions of stride 2
    norm: str = "instance"  # instance (CycleGAN), batch (pix2pix) or none
    image_size: int = 256  # pixels, of the example input
    init: str = "normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_choice("norm", NORMS)
        if self.n_layers > 10:
            raise self.error(f"n_layers is {self.n_layers}; give at most 10")
        # the two last convolutions take a pixel each
        self.require_at_least("image_size", 3 * 2**self.n_layers)

    def network(self) -> nn.Module:
        """Makes the layers."""
        return PatchDiscriminator(self.input_nc, self.ndf, self.n_layers, self.norm)


class PatchDiscriminator(nn.Module):
    """4x4 convolutions: n_layers of stride 2, one of stride 1, and one that scores."""

    def __init__(self, inputs: int, ndf: int, n_layers: int, norm: str) -> None:
        super().__init__()
        widths = [ndf * min(2**step, WIDEST) for step in range(n_layers + 1)]
        first = sequence(conv=nn.Conv2d(inputs, ndf, 4, 2, 1), act=nn.LeakyReLU(0.2))
        steps = [first]
        for step in range(1, n_layers + 1):
            stride = 2 if step < n_layers else 1
            # a batch norm's shift does what a bias would
            conv = nn.Conv2d(widths[step - 1], widths[step], 4, stride, 1, bias=norm != "batch")
            steps.append(sequence(conv=conv, norm=NORMS[norm](widths[step]), act=nn.LeakyReLU(0.2)))
        self.layers = nn.Sequential(*steps)
        self.score = nn.Conv2d(widths[-1], 1, 4, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Scores the patches of an image."""
        scores: Tensor = self.score(self.layers(image))
        return scores
