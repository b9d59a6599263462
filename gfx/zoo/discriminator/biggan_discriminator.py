"""BigGAN discriminator: residual blocks that halve the image, self-attention, class projection.

Source
  Brock et al. 2019, arXiv:1809.11096, section 3 and appendix B (figure 15c, table 4b);
  Miyato and Koyama 2018, arXiv:1802.05637, section 3 (projection on the class).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from gfx.zoo.biggan import BigGanAttention
from gfx.zoo.discriminator.discriminator_spec import WEIGHTED, DiscriminatorSpec
from gfx.zoo.spec import integers


@dataclass(frozen=True)
class BigganDiscriminatorSpec(DiscriminatorSpec):
    """BigGAN discriminator: scores an image as one of its class.

    The attention is at half the image size, 64x64 of 128x128, after the first block.

    Shapes: (N, input_nc, image_size, image_size) and class numbers (N,) -> (N, 1).
    Raises: InputError if an option is out of range.
    Source: Brock et al. 2019, arXiv:1809.11096, appendix B, table 4b.
    """

    name: ClassVar[str] = "biggan_discriminator"

    ch: int = 96  # channels of the first block; at least 8, an attention key has an eighth
    n_classes: int = 1000
    input_nc: int = 3
    image_size: int = 128  # pixels: a power of two, at least 16; one block for each halving
    init: str = "orthogonal"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least("ch", 8)
        self.require_power_of_two("image_size", least=16)

    def network(self) -> nn.Module:
        """Makes the layers."""
        halvings = self.image_size.bit_length() - 3  # down to 4x4
        widths = [self.ch * 2**step for step in range(halvings)]
        return BigganDiscriminator(self.input_nc, widths, self.n_classes)

    def normalised(self, network: nn.Module) -> Iterable[nn.Module]:
        """Lists every layer that has weights."""
        return [layer for layer in network.modules() if isinstance(layer, WEIGHTED)]

    def inputs(self, batch: int) -> tuple[Tensor, ...]:
        """Makes an image and a class number."""
        image = self.image(batch)
        return image, integers(self.n_classes, batch)


class BigganDiscriminator(nn.Module):
    """Blocks down to 4x4, one more block, the sum over positions, score and projection."""

    def __init__(self, inputs: int, widths: list[int], n_classes: int) -> None:
        super().__init__()
        ends = [*zip([inputs, *widths], widths, strict=False), (widths[-1], widths[-1])]
        self.blocks = nn.ModuleList(
            DownBlock(*pair, first=step == 0, down=step < len(widths))
            for step, pair in enumerate(ends)
        )
        self.attention = BigGanAttention(widths[0], spectral=False)
        self.act = nn.ReLU()
        self.score = nn.Linear(widths[-1], 1)
        self.classes = nn.Embedding(n_classes, widths[-1])

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """Scores an image of a class."""
        x = image
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == 0:
                x = self.attention(x)
        features = self.act(x).sum(dim=(2, 3))
        fit = (self.classes(label) * features).sum(dim=1, keepdim=True)
        scores: Tensor = self.score(features) + fit
        return scores


class DownBlock(nn.Module):
    """Residual block that halves the size; the first takes the image, without a ReLU before.

    Shapes: (N, inputs, H, W) -> (N, outputs, H / 2, W / 2); the same size where `down` is false.
    Source: Brock et al. 2019, arXiv:1809.11096, figure 15c.
    """

    def __init__(self, inputs: int, outputs: int, *, first: bool, down: bool) -> None:
        super().__init__()
        self.first, self.down = first, down
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        changes = down or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if changes else nn.Identity()
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Halves the size of the features."""
        branch = self.conv2(self.act(self.conv1(x if self.first else self.act(x))))
        if not self.down:
            skip = self.shortcut(x)
        elif self.first:  # pooling commutes with a 1x1 convolution, and the image is cheap to pool
            branch, skip = F.avg_pool2d(branch, 2), self.shortcut(F.avg_pool2d(x, 2))
        else:
            branch, skip = F.avg_pool2d(branch, 2), F.avg_pool2d(self.shortcut(x), 2)
        block: Tensor = branch + skip
        return block
