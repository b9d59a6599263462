"""Multi-scale PatchGAN of pix2pixHD and SPADE: the same PatchGAN on smaller and smaller images.

Source
  Wang et al. 2018, arXiv:1711.11585, section 3.2 and appendix (three scales, instance norm,
  features of every layer for feature matching);
  Park et al. 2019, arXiv:1903.07291, appendix A, figure 13 (two scales, spectral norm).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from gfx.zoo.building_blocks import sequence
from gfx.zoo.discriminator.discriminator_spec import DiscriminatorSpec
from gfx.zoo.discriminator.patchgan import NORMS, WIDEST


@dataclass(frozen=True)
class MultiscalePatchgan(DiscriminatorSpec):
    """Multi-scale PatchGAN of pix2pixHD; of SPADE with num_scales=2 and spectral=true.

    Returns a list of scales, the full image first; each is the list of its layers' outputs, the
    scores last. The losses of gfx take both: adversarial ones the scores, feature matching the
    rest. With `spectral` the convolutions between the first and the last have a spectral norm and
    no bias, as in SPADE.

    Shapes: (N, input_nc, H, W) -> num_scales lists of n_layers + 2 maps; the last (N, 1, h, w).
    Raises: InputError if an option is out of range.
    Source: Wang et al. 2018, arXiv:1711.11585, section 3.2; Park et al. 2019, arXiv:1903.07291,
    appendix A.
    """

    name: ClassVar[str] = "multiscale_patchgan"

    input_nc: int = 39  # Cityscapes: 35 labels, instance edges and the image
    ndf: int = 64  # channels of the first layer, doubled by each layer up to 8 times as many
    n_layers: int = 3  # convolutions of stride 2
    num_scales: int = 3  # each image half the size of the one before
    norm: str = "instance"  # instance, batch or none
    spectral: bool = False  # spectral norm, as in SPADE
    image_size: int = 256  # pixels, of the example input
    init: str = "normal"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_choice("norm", NORMS)
        for option in ("n_layers", "num_scales"):
            if getattr(self, option) > 10:
                raise self.error(f"{option} is {getattr(self, option)}; give at most 10")
        self.require_at_least("image_size", 2 ** (self.n_layers + self.num_scales - 1))

    def network(self) -> nn.Module:
        """Makes the layers."""
        one = (self.input_nc, self.ndf, self.n_layers, self.norm, not self.spectral)
        return MultiscaleDiscriminator([ScaleDiscriminator(*one) for _ in range(self.num_scales)])

    def normalised(self, network: nn.Module) -> Iterable[nn.Module]:
        """Lists the convolutions between the first and the last of each scale."""
        if not self.spectral:
            return ()
        convs = (path_layer for path_layer in network.named_modules() if "middle" in path_layer[0])
        return [layer for _, layer in convs if isinstance(layer, nn.Conv2d)]


class MultiscaleDiscriminator(nn.Module):
    """Hands the image to one discriminator after the other, each time half as large."""

    def __init__(self, scales: list[nn.Module]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(scales)
        self.smaller = nn.AvgPool2d(3, 2, 1, count_include_pad=False)

    def forward(self, image: Tensor) -> list[list[Tensor]]:
        """Returns the outputs of all layers at every scale."""
        found = []
        for index, scale in enumerate(self.scales):
            if index:
                image = self.smaller(image)
            found.append(scale(image))
        return found


class ScaleDiscriminator(nn.Module):
    """PatchGAN with padding 2 that returns the outputs of all its layers."""

    def __init__(self, inputs: int, ndf: int, n_layers: int, norm: str, biases: bool) -> None:
        super().__init__()
        widths = [ndf * min(2**step, WIDEST) for step in range(n_layers + 1)]
        self.first = sequence(conv=nn.Conv2d(inputs, ndf, 4, 2, 2), act=nn.LeakyReLU(0.2))
        self.middle = nn.ModuleList()
        for step in range(1, n_layers + 1):
            stride = 2 if step < n_layers else 1
            bias = biases and norm != "batch"
            conv = nn.Conv2d(widths[step - 1], widths[step], 4, stride, 2, bias=bias)
            layer = sequence(conv=conv, norm=NORMS[norm](widths[step]), act=nn.LeakyReLU(0.2))
            self.middle.append(layer)
        self.score = nn.Conv2d(widths[-1], 1, 4, 1, 2)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Returns the features of each layer, then the scores."""
        outputs = [self.first(image)]
        for layer in self.middle:
            outputs.append(layer(outputs[-1]))
        outputs.append(self.score(outputs[-1]))
        return outputs
