"""SAGAN discriminator: strided convolutions with spectral norm and two self-attentions.

Source
  Zhang et al. 2019, arXiv:1805.08318, sections 3 and 4;
  Miyato and Koyama 2018, arXiv:1802.05637, section 3 (projection on the class).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from gfx.zoo.building_blocks import sequence
from gfx.zoo.discriminator.discriminator_spec import WEIGHTED, DiscriminatorSpec
from gfx.zoo.sagan import SaganAttention
from gfx.zoo.spec import integers


@dataclass(frozen=True)
class SaganDiscriminatorSpec(DiscriminatorSpec):
    """SAGAN discriminator: spectral norms, self-attention, and a projection where classes are.

    Shapes: (N, input_nc, image_size, image_size) -> (N, 1); with n_classes also class numbers (N,).
    Raises: InputError if an option is out of range.
    Source: Zhang et al. 2019, arXiv:1805.08318, sections 3 and 4.
    """

    name: ClassVar[str] = "sagan_discriminator"

    input_nc: int = 3
    ndf: int = 64  # channels of the first stage
    n_classes: int | None = None  # None: it knows no classes
    image_size: int = 64  # pixels: a power of two, at least 16
    init: str = "orthogonal"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_count_or_none("n_classes")
        self.require_at_least("ndf", 8)
        self.require_power_of_two("image_size", least=16)

    def network(self) -> nn.Module:
        """Makes the layers."""
        stages = self.image_size.bit_length() - 3  # image_size/2 -> 4x4
        widths = [self.ndf * 2**step for step in range(stages)]
        if self.n_classes is None:
            return SaganDiscriminator(self.input_nc, widths)
        return SaganProjection(self.input_nc, widths, self.n_classes)

    def normalised(self, network: nn.Module) -> Iterable[nn.Module]:
        """Lists every layer that has weights."""
        return [layer for layer in network.modules() if isinstance(layer, WEIGHTED)]

    def inputs(self, batch: int) -> tuple[Tensor, ...]:
        """Makes an image, and a class number where there are classes."""
        image = self.image(batch)
        return (image,) if self.n_classes is None else (image, integers(self.n_classes, batch))


class SaganDiscriminator(nn.Module):
    """Halves the image down to 4x4, attends at 8x8 and at 4x4, scores by one convolution."""

    def __init__(self, inputs: int, widths: list[int]) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for before, after in zip([inputs, *widths], widths, strict=False):
            stages.append(sequence(conv=nn.Conv2d(before, after, 4, 2, 1), act=nn.LeakyReLU(0.1)))
            if after in widths[-2:]:
                stages.append(SaganAttention(after))
        self.down = nn.Sequential(*stages)
        self.score = nn.Conv2d(widths[-1], 1, 4)

    def forward(self, image: Tensor) -> Tensor:
        """Scores an image."""
        scores: Tensor = self.score(self.down(image))
        return scores.view(image.size(0), 1)


class SaganProjection(SaganDiscriminator):
    """Adds to the score how the features, summed over positions, fit the class."""

    def __init__(self, inputs: int, widths: list[int], n_classes: int) -> None:
        super().__init__(inputs, widths)
        self.classes = nn.Embedding(n_classes, widths[-1])

    def forward(self, image: Tensor, label: Tensor) -> Tensor:  # type: ignore[override]
        """Scores an image of a class."""
        features = self.down(image)
        scores = self.score(features).view(image.size(0), 1)
        fit = (self.classes(label) * features.sum(dim=(2, 3))).sum(dim=1, keepdim=True)
        scored: Tensor = scores + fit
        return scored
