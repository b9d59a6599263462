"""U-Net generator of pix2pix: an encoder, a decoder, and a skip between equal sizes.

Source: Isola et al. 2017, arXiv:1611.07004, section 6.1.1
(encoder C64-C128-C256-C512-C512-C512-C512-C512, decoder CD512-CD512-CD512-C512-C256-C128-C64).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gfx.zoo.building_blocks import sequence
from gfx.zoo.spec import Spec, normal


@dataclass(frozen=True)
class Unet256(Spec):
    """pix2pix U-Net: eight down-samplings to 1x1, eight up-samplings, skips by concatenation.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, H, W), H and W multiples of 2**n_down.
    Raises: InputError if an option is out of range.
    Source: Isola et al. 2017, arXiv:1611.07004, section 6.1.1.
    """

    name: ClassVar[str] = "unet_256"

    ngf: int = 64  # channels of the first encoder stage, doubled three times
    n_down: int = 8  # encoder stages, and as many decoder stages
    in_channels: int = 3
    out_channels: int = 3
    image_size: int = 256  # pixels, of the example input; a multiple of 2**n_down
    dropout: float = 0.5  # share dropped after the decoder stages that CD512 names, 0 ≤ dropout < 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least("n_down", 2)
        self.require_multiple("image_size", 2**self.n_down)
        if type(self.dropout) not in (int, float) or not 0 <= self.dropout < 1:
            raise self.error(f"dropout is {self.dropout!r}; give a share from 0 up to 1")

    def build(self) -> nn.Module:
        """Builds the generator."""
        widths = [self.ngf * min(2**step, 8) for step in range(self.n_down)]
        return UnetGenerator(self.in_channels, self.out_channels, widths, self.dropout)

    def inputs(self, batch: int) -> tuple[Tensor, ...]:
        """Makes an image."""
        return (normal(batch, self.in_channels, self.image_size, self.image_size),)


class UnetGenerator(nn.Module):
    """Encodes to the bottleneck, decodes with the encoder's features concatenated."""

    def __init__(self, inputs: int, outputs: int, widths: list[int], dropout: float) -> None:
        super().__init__()
        last = len(widths) - 1
        self.down = nn.ModuleList(
            # the first stage sees raw pixels, the last has one pixel: no statistics to normalise by
            _down(before, width, norm=0 < stage < last)
            for stage, (before, width) in enumerate(zip([inputs, *widths], widths, strict=False))
        )
        self.up = nn.ModuleList(
            _up(
                widths[stage] if stage == last else 2 * widths[stage],
                widths[stage - 1],
                # CD512: the three stages after the bottleneck
                dropout if widths[stage - 1] == widths[last] and 0 < last - stage <= 3 else 0.0,
            )
            for stage in range(last, 0, -1)
        )
        self.to_rgb = nn.ConvTranspose2d(2 * widths[0], outputs, 4, 2, 1)
        self.tanh = nn.Tanh()

    def forward(self, image: Tensor) -> Tensor:
        """Translates an image."""
        skips = []
        x = image
        for stage in self.down:
            x = stage(x)
            skips.append(x)
        for stage, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = torch.cat([skip, stage(x)], dim=1)
        rgb: Tensor = self.tanh(self.to_rgb(x))
        return rgb


def _down(inputs: int, outputs: int, norm: bool) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
    if norm:
        return sequence(conv=conv, norm=nn.BatchNorm2d(outputs), act=nn.LeakyReLU(0.2))
    return sequence(conv=conv, act=nn.LeakyReLU(0.2))


def _up(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    stage = sequence(
        conv=nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), norm=nn.BatchNorm2d(outputs)
    )
    if dropout:
        stage.add_module("drop", nn.Dropout(dropout))
    stage.add_module("act", nn.ReLU())
    return stage
