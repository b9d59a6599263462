"""ResNet generators for image translation: CycleGAN and pix2pix, their mobile form, pix2pixHD.

Source
  Johnson et al. 2016, arXiv:1603.08155, and Zhu et al. 2017, arXiv:1703.10593, section 7.2
  (c7s1-64, d128, d256, nine R256, u128, u64, c7s1-3; reflection padding, instance norm);
  Li et al. 2020, arXiv:2003.08936, section 3.3 (separable residual blocks, widths);
  Wang et al. 2018, arXiv:1711.11585, appendix (global generator: four down-samplings).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from gfx.zoo.building_blocks import SeparableConv2d, sequence
from gfx.zoo.spec import Spec, are_counts, label_map, normal

STAGES = ("stem", "down", "blocks", "up")
# what a full-width network multiplies ngf by, in the order of the eight widths
MULTIPLES = (1, 2, 4, 4, 4, 4, 2, 1)


@dataclass(frozen=True)
class Resnet9Blocks(Spec):
    """CycleGAN and pix2pix ResNet with nine residual blocks.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, H, W), H and W multiples of 2**n_down.
    Raises: InputError if an option is out of range.
    Source: Zhu et al. 2017, arXiv:1703.10593, section 7.2.
    """

    name: ClassVar[str] = "resnet_9blocks"

    ngf: int = 64  # channels of the stem, doubled by each down-sampling
    n_blocks: int = 9  # residual blocks
    n_down: int = 2  # down-samplings, and as many up-samplings
    in_channels: int = 3
    out_channels: int = 3
    image_size: int = 256  # pixels, of the example input; a multiple of 2**n_down
    separable: Sequence[str] = ()  # which of stem, down, blocks, up use separable convolutions

    def __post_init__(self) -> None:
        super().__post_init__()
        # reflection pads the residual stream by 1 pixel, which needs at least 2
        self.require_at_least("image_size", 2 * 2**self.n_down)
        self.require_multiple("image_size", 2**self.n_down)
        listed = isinstance(self.separable, list | tuple)
        if not listed or any(stage not in STAGES for stage in self.separable):
            raise self.error(f"separable is {self.separable!r}; list some of {', '.join(STAGES)}")

    def build(self) -> nn.Module:
        """Builds the generator."""
        downs = [self.ngf * 2**step for step in range(1, self.n_down + 1)]
        inner = [downs[-1]] * self.n_blocks
        ups = [self.ngf, *downs][-2::-1]
        return ResnetGenerator(
            self.in_channels, self.out_channels, self.ngf, downs, inner, ups, self.separable
        )

    def inputs(self, batch: int) -> tuple[Tensor, ...]:
        """Makes an image."""
        return (normal(batch, self.in_channels, self.image_size, self.image_size),)


@dataclass(frozen=True)
class MobileResnet9Blocks(Resnet9Blocks):
    """ResNet of GAN Compression: separable convolutions in every residual block.

    `widths` names a subnet by eight numbers, each in the place of `ngf` for one part: stem,
    down 1, down 2 (the residual stream), inner width of the first, middle and last third of the
    blocks, up 1, up 2. The part has 1, 2, 4, 4, 4, 4, 2, 1 times as many channels, so
    16_16_32_16_32_32_16_16 has a stem of 16, 32 after down 1 and a stream of 128.

    Shapes: as resnet_9blocks.
    Raises: InputError if an option is out of range.
    Source: Li et al. 2020, arXiv:2003.08936, section 3.3.
    """

    name: ClassVar[str] = "mobile_resnet_9blocks"

    separable: Sequence[str] = ("blocks",)
    widths: Sequence[int] | None = None  # eight numbers; None means ngf for all

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.widths is None:
            return
        if not are_counts(self.widths):
            raise self.error(f"widths is {self.widths!r}; give eight whole numbers of at least 1")
        if len(self.widths) != 8 or self.n_down != 2:
            raise self.error(
                f"widths has {len(self.widths)} entries and n_down is {self.n_down}; "
                "give eight widths and leave n_down at 2"
            )

    def build(self) -> nn.Module:
        """Builds the generator."""
        if self.widths is None:
            return super().build()
        channels = (width * by for width, by in zip(self.widths, MULTIPLES, strict=True))
        stem, down1, stream, *thirds, up1, up2 = channels
        inner = [thirds[3 * block // self.n_blocks] for block in range(self.n_blocks)]
        return ResnetGenerator(
            self.in_channels,
            self.out_channels,
            stem,
            [down1, stream],
            inner,
            [up1, up2],
            self.separable,
        )


@dataclass(frozen=True)
class Pix2pixhdGlobal(Resnet9Blocks):
    """Global generator of pix2pixHD: four down-samplings, nine blocks at 1024 channels.

    Shapes: (N, in_channels, H, W) -> (N, out_channels, H, W); the example is twice as wide as high.
    Raises: InputError if an option is out of range.
    Source: Wang et al. 2018, arXiv:1711.11585, section 3.2 and appendix.
    """

    name: ClassVar[str] = "pix2pixhd_global"

    n_down: int = 4
    in_channels: int = 36  # one per label, and the instance edges

    def inputs(self, batch: int) -> tuple[Tensor, ...]:
        """Makes a label map."""
        return (label_map(batch, self.in_channels, self.image_size, 2 * self.image_size),)


class ResnetGenerator(nn.Module):
    """Stem, down-samplings, residual blocks, up-samplings, then a 7x7 convolution to RGB."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stem: int,
        downs: Sequence[int],
        inner: Sequence[int],
        ups: Sequence[int],
        separable: Sequence[str] = (),
    ) -> None:
        super().__init__()
        stream = downs[-1]
        self.stem = sequence(
            pad=nn.ReflectionPad2d(3),
            conv=_conv(nn.Conv2d(inputs, stem, 7), "stem" in separable),
            norm=nn.InstanceNorm2d(stem),
            act=nn.ReLU(),
        )
        self.down = nn.Sequential(
            *(_down(*pair, "down" in separable) for pair in _steps(stem, downs))
        )
        self.blocks = nn.Sequential(
            *(ResnetBlock(stream, width, "blocks" in separable) for width in inner)
        )
        self.up = nn.Sequential(*(_up(*pair, "up" in separable) for pair in _steps(stream, ups)))
        self.pad = nn.ReflectionPad2d(3)
        self.to_rgb = nn.Conv2d(ups[-1], outputs, 7)
        self.tanh = nn.Tanh()

    def forward(self, image: Tensor) -> Tensor:
        """Translates an image."""
        features = self.up(self.blocks(self.down(self.stem(image))))
        rgb: Tensor = self.tanh(self.to_rgb(self.pad(features)))
        return rgb


class ResnetBlock(nn.Module):
    """Adds two 3x3 convolutions to the residual stream: stream -> inner -> stream."""

    def __init__(self, stream: int, inner: int, separable: bool) -> None:
        super().__init__()
        self.pad1 = nn.ReflectionPad2d(1)
        self.conv1 = _conv(nn.Conv2d(stream, inner, 3), separable)
        self.norm1 = nn.InstanceNorm2d(inner)
        self.act = nn.ReLU()
        self.pad2 = nn.ReflectionPad2d(1)
        self.conv2 = _conv(nn.Conv2d(inner, stream, 3), separable)
        self.norm2 = nn.InstanceNorm2d(stream)

    def forward(self, x: Tensor) -> Tensor:
        """Adds the branch to what came in."""
        inner = self.act(self.norm1(self.conv1(self.pad1(x))))
        branch: Tensor = self.norm2(self.conv2(self.pad2(inner)))
        return x + branch


def _steps(first: int, rest: Sequence[int]) -> list[tuple[int, int]]:
    return list(zip([first, *rest], rest, strict=False))


def _conv(dense: nn.Conv2d | nn.ConvTranspose2d, separable: bool) -> nn.Module:
    return SeparableConv2d(dense) if separable else dense


def _down(inputs: int, outputs: int, separable: bool) -> nn.Sequential:
    dense = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
    return sequence(conv=_conv(dense, separable), norm=nn.InstanceNorm2d(outputs), act=nn.ReLU())


def _up(inputs: int, outputs: int, separable: bool) -> nn.Sequential:
    dense = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
    return sequence(conv=_conv(dense, separable), norm=nn.InstanceNorm2d(outputs), act=nn.ReLU())
