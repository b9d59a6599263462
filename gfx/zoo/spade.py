"""GauGAN: an image from a label map, by spatially adaptive normalisation (SPADE).

Source
  Park et al. 2019, arXiv:1903.07291, sections 3 and 4, appendix A (figures 11 to 14);
  Li et al. 2020, arXiv:2003.08936 (the mobile form and its widths).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm
from torch.nn.utils.spectral_norm import SpectralNorm

from gfx.zoo.building_blocks import SeparableConv2d
from gfx.zoo.spec import Spec, are_counts, is_count, label_map, nearest_choice


class Scene(NamedTuple):
    """Describes the label maps of a data set."""

    labels: int  # channels: the classes, the unknown class, the instance edges
    height: int  # pixels
    width: int  # pixels
    doublings: int  # from the first features to the image


# the wide scenes of Cityscapes start one doubling lower
DATASETS = MappingProxyType({"cityscapes": Scene(36, 256, 512, 6), "coco": Scene(184, 256, 256, 5)})
# what a full-width network multiplies ngf by: stream, head, middle 1-2, up 1-4
MULTIPLES = (16, 16, 16, 16, 8, 4, 2, 1)


@dataclass(frozen=True)
class Spade(Spec):
    """GauGAN generator: seven residual blocks whose norms read the label map.

    `widths` names a subnet of GAN Compression by eight numbers, each in the place of `ngf` for one
    part: the stream through head and middle, the inner width of head, middle 1 and middle 2, the
    output of up 1 to up 4. A block's own number also scales what its norms compute from the label
    map: `hidden` is twice that number, unless given.

    Shapes: (N, labels, H, W) -> (N, out_channels, H, W), H and W multiples of 2**doublings.
    Raises: InputError if an option is out of range.
    Source: Park et al. 2019, arXiv:1903.07291, appendix A.
    """

    name: ClassVar[str] = "spade"

    dataset: str = "cityscapes"  # cityscapes or coco: says labels, height, width, doublings
    ngf: int = 64  # channels before RGB
    out_channels: int = 3
    spectral: bool = True  # spectral norm on the convolutions of the blocks
    mobile: bool = False  # separable convolutions for scale and shift, as in GAN Compression
    labels: int | None = None  # label channels; None means the data set's
    height: int | None = None  # pixels, of the example input; None means the data set's
    width: int | None = None  # pixels, of the example input; None means the data set's
    doublings: int | None = None  # 5 or 6; None means the data set's
    hidden: int | None = None  # channels between label map and scale; None means 2*ngf, here 128
    widths: Sequence[int] | None = None  # eight numbers; None means ngf for all

    def __post_init__(self) -> None:
        super().__post_init__()
        if str(self.dataset) not in DATASETS:
            hint = nearest_choice(str(self.dataset), DATASETS)
            raise self.error(f"dataset is {self.dataset!r}{hint}")
        for option, value in {**self.scene._asdict(), "hidden": self.hidden}.items():
            if value is not None and not is_count(value):
                raise self.error(f"{option} is {value!r}; give a whole number of at least 1")
        if self.scene.doublings not in (5, 6):
            raise self.error(f"doublings is {self.scene.doublings}; give 5 or 6")
        for option in ("height", "width"):
            value, of = getattr(self.scene, option), 2**self.scene.doublings
            if value % of:
                raise self.error(f"{option} is {value}; give a multiple of {of}")
        self._check_widths()

    def _check_widths(self) -> None:
        if self.widths is None:
            return
        if not are_counts(self.widths) or len(self.widths) != len(MULTIPLES):
            raise self.error(f"widths is {self.widths!r}; give eight whole numbers of at least 1")

    @property
    def scene(self) -> Scene:
        """Says what the label maps look like."""
        given = {field: getattr(self, field) for field in Scene._fields}
        changed = {field: value for field, value in given.items() if value is not None}
        return DATASETS[self.dataset]._replace(**changed)

    def build(self) -> nn.Module:
        """Builds the generator."""
        widths = self.widths or [self.ngf] * len(MULTIPLES)
        channels = [width * by for width, by in zip(widths, MULTIPLES, strict=True)]
        norms = [
            partial(
                Spade2d,
                labels=self.scene.labels,
                hidden=self.hidden or 2 * width,
                separable=self.mobile,
            )
            for width in widths[1:]
        ]
        generator = SpadeGenerator(channels, norms, self.scene, self.out_channels)
        return _with_spectral_norm(generator) if self.spectral else generator

    def inputs(self, batch: int) -> tuple[Tensor, ...]:
        """Makes a one-hot label map."""
        labels, height, width, _ = self.scene
        return (label_map(batch, labels, height, width),)


class SpadeGenerator(nn.Module):
    """Starts from the small label map, doubles it five or six times between SPADE blocks."""

    def __init__(
        self,
        channels: Sequence[int],
        norms: Sequence[Callable[[int], nn.Module]],
        scene: Scene,
        outputs: int,
    ) -> None:
        super().__init__()
        self.doublings = scene.doublings
        stream, head, middle1, middle2, *ups = channels
        self.stem = nn.Conv2d(scene.labels, stream, 3, padding=1)
        self.head = SpadeBlock(stream, head, stream, norms[0], learnt=False)
        self.middle1 = SpadeBlock(stream, middle1, stream, norms[1], learnt=False)
        self.middle2 = SpadeBlock(stream, middle2, stream, norms[2], learnt=False)
        self.up = nn.ModuleList(
            SpadeBlock(before, after, after, norm, learnt=True)
            for before, after, norm in zip([stream, *ups[:-1]], ups, norms[3:], strict=True)
        )
        self.enlarge = nn.Upsample(scale_factor=2)
        self.act = nn.LeakyReLU(0.2)
        self.to_rgb = nn.Conv2d(ups[-1], outputs, 3, padding=1)
        self.tanh = nn.Tanh()

    def forward(self, labels: Tensor) -> Tensor:
        """Paints a label map."""
        small = F.interpolate(labels, scale_factor=0.5**self.doublings)
        x = self.head(self.stem(small), labels)
        x = self.middle1(self.enlarge(x), labels)
        if self.doublings == 6:
            x = self.enlarge(x)
        x = self.middle2(x, labels)
        for block in self.up:
            x = block(self.enlarge(x), labels)
        rgb: Tensor = self.tanh(self.to_rgb(self.act(x)))
        return rgb


class SpadeBlock(nn.Module):
    """Adds two SPADE-normalised 3x3 convolutions; the up blocks learn the shortcut too.

    Shapes: (N, inputs, H, W) and the label map -> (N, outputs, H, W).
    Source: Park et al. 2019, arXiv:1903.07291, figure 11.
    """

    def __init__(
        self,
        inputs: int,
        inner: int,
        outputs: int,
        norm: Callable[[int], nn.Module],
        learnt: bool,
    ) -> None:
        super().__init__()
        self.norm1 = norm(inputs)
        self.conv1 = nn.Conv2d(inputs, inner, 3, padding=1)
        self.norm2 = norm(inner)
        self.conv2 = nn.Conv2d(inner, outputs, 3, padding=1)
        self.act = nn.LeakyReLU(0.2)
        self.learnt = learnt
        if learnt:
            self.norm_shortcut = norm(inputs)
            self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Adds the branch to what came in."""
        branch = self.conv1(self.act(self.norm1(x, labels)))
        branch = self.conv2(self.act(self.norm2(branch, labels)))
        if self.learnt:
            x = self.shortcut(self.norm_shortcut(x, labels))
        added: Tensor = x + branch
        return added


class Spade2d(nn.Module):
    """Normalises by batch statistics, then scales and shifts each position by its label.

    Shapes: (N, C, h, w) and the label map (N, labels, H, W) -> (N, C, h, w).
    Source: Park et al. 2019, arXiv:1903.07291, equation 1 and figure 10.
    """

    def __init__(self, channels: int, labels: int, hidden: int, separable: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.shared = nn.Conv2d(labels, hidden, 3, padding=1)
        self.act = nn.ReLU()
        self.scale = _conv(hidden, channels, separable)
        self.shift = _conv(hidden, channels, separable)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Normalises under a label map."""
        hidden = self.act(self.shared(F.interpolate(labels, size=x.shape[2:])))
        modulated: Tensor = self.norm(x) * (1 + self.scale(hidden)) + self.shift(hidden)
        return modulated


def _conv(inputs: int, outputs: int, separable: bool) -> nn.Module:
    dense = nn.Conv2d(inputs, outputs, 3, padding=1)
    return SeparableConv2d(dense) if separable else dense


def _with_spectral_norm(generator: nn.Module) -> nn.Module:
    """Wraps the convolutions of the blocks, not those that read the label map or make RGB."""
    for block in generator.modules():
        if isinstance(block, SpadeBlock):
            for conv in block.children():
                if isinstance(conv, nn.Conv2d):
                    _iterate_power_method(spectral_norm(conv))
    return generator


@torch.no_grad()
def _iterate_power_method(conv: nn.Module, rounds: int = 5) -> None:
    # the random first guess is far below the largest singular value: untrained, in eval mode,
    # eighteen convolutions divided by it would overflow
    for hook in conv._forward_pre_hooks.values():
        if isinstance(hook, SpectralNorm):
            for _ in range(rounds):
                hook.compute_weight(conv, do_power_iteration=True)
