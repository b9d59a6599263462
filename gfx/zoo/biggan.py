"""BigGAN at 128x128: class-conditional images, the latent fed in chunk by chunk.

Source: Brock et al. 2019, arXiv:1809.11096, section 3.1, appendix B (figure 15, table 4).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gfx.zoo.spec import Spec, integers, normal


@dataclass(frozen=True)
class Biggan128(Spec):
    """BigGAN generator, 128x128: shared class embedding, hierarchical latent, self-attention.

    Shapes: (N, z_dim) and class numbers (N,) -> (N, out_channels, image_size, image_size).
    Raises: InputError if an option is out of range.
    Source: Brock et al. 2019, arXiv:1809.11096, appendix B, table 4.
    """

    name: ClassVar[str] = "biggan_128"

    ch: int = 96  # channels before RGB; at least 4, an attention key has a quarter
    z_dim: int = 120  # split evenly: one chunk for the first linear, one for each block
    n_classes: int = 1000
    shared_dim: int = 128  # width of the class embedding that all blocks share
    out_channels: int = 3
    image_size: int = 128  # pixels: a power of two, at least 16; one block for each doubling

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least("ch", 4)
        self.require_power_of_two("image_size", least=16)
        self.require_multiple("z_dim", self.n_blocks + 1)

    @property
    def n_blocks(self) -> int:
        """Counts the doublings from 4x4 to the image."""
        return self.image_size.bit_length() - 3

    def build(self) -> nn.Module:
        """Builds the generator."""
        widths = [self.ch * 2**step for step in reversed(range(self.n_blocks))]
        chunk = self.z_dim // (self.n_blocks + 1)
        embedding = nn.Embedding(self.n_classes, self.shared_dim)
        return BigganGenerator(embedding, chunk, [widths[0], *widths], self.out_channels)

    def inputs(self, batch: int) -> tuple[Tensor, ...]:
        """Makes a latent vector and a class number."""
        return normal(batch, self.z_dim), integers(self.n_classes, batch)


class BigganGenerator(nn.Module):
    """Latent chunk to 4x4 by a linear, doubling blocks with conditional norms, RGB."""

    def __init__(self, shared: nn.Embedding, chunk: int, widths: list[int], outputs: int) -> None:
        super().__init__()
        self.chunk = chunk
        self.first = widths[0]
        self.shared = shared
        self.linear = spectral_norm(nn.Linear(chunk, 16 * widths[0]))
        condition = chunk + shared.embedding_dim
        self.blocks = nn.ModuleList(
            UpBlock(before, after, condition) for before, after in pairwise(widths)
        )
        self.attention = BigGanAttention(widths[-2])
        self.norm = nn.BatchNorm2d(widths[-1])
        self.act = nn.ReLU()
        self.to_rgb = spectral_norm(nn.Conv2d(widths[-1], outputs, 3, padding=1))
        self.tanh = nn.Tanh()

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        """Generates an image of the class."""
        chunks = torch.split(z, self.chunk, dim=1)
        shared = self.shared(label)
        x = self.linear(chunks[0]).view(-1, self.first, 4, 4)
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            if index == last:  # at half the image size: 64x64 of 128x128
                x = self.attention(x)
            x = block(x, torch.cat([shared, chunks[index + 1]], dim=1))
        image: Tensor = self.tanh(self.to_rgb(self.act(self.norm(x))))
        return image


class UpBlock(nn.Module):
    """Residual block that doubles the size, its norms conditioned on class and latent.

    Shapes: (N, inputs, H, W) and (N, condition) -> (N, outputs, 2H, 2W).
    Source: Brock et al. 2019, arXiv:1809.11096, figure 15b.
    """

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm2d(inputs, condition)
        self.conv1 = spectral_norm(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.norm2 = ConditionalBatchNorm2d(outputs, condition)
        self.conv2 = spectral_norm(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.shortcut = spectral_norm(nn.Conv2d(inputs, outputs, 1))
        self.up = nn.Upsample(scale_factor=2)
        self.act = nn.ReLU()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Doubles the size of the features."""
        branch = self.conv1(self.up(self.act(self.norm1(x, condition))))
        branch = self.conv2(self.act(self.norm2(branch, condition)))
        doubled: Tensor = branch + self.shortcut(self.up(x))
        return doubled


class ConditionalBatchNorm2d(nn.Module):
    """Normalises by batch statistics, then scales and shifts by what the condition says.

    Shapes: (N, C, H, W) and (N, condition) -> (N, C, H, W).
    Source: Brock et al. 2019, arXiv:1809.11096, appendix B.
    """

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.channels = channels
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = spectral_norm(nn.Linear(condition, channels, bias=False))
        self.shift = spectral_norm(nn.Linear(condition, channels, bias=False))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Normalises under a condition."""
        gain = 1 + self.gain(condition).view(-1, self.channels, 1, 1)
        shift = self.shift(condition).view(-1, self.channels, 1, 1)
        scaled: Tensor = self.norm(x) * gain + shift
        return scaled


class BigGanAttention(nn.Module):
    """Adds a mix of all positions; keys and values are pooled to a quarter of the positions.

    `spectral=False` leaves the spectral norms to the caller.

    Shapes: (N, C, H, W) -> (N, C, H, W), H and W even.
    Source: Zhang et al. 2019, arXiv:1805.08318, as used by Brock et al. 2019, section 3.
    """

    def __init__(self, channels: int, *, spectral: bool = True) -> None:
        super().__init__()
        self.keys = channels // 8
        self.values = channels // 2
        self.query = nn.Conv2d(channels, self.keys, 1, bias=False)
        self.key = nn.Conv2d(channels, self.keys, 1, bias=False)
        self.value = nn.Conv2d(channels, self.values, 1, bias=False)
        self.out = nn.Conv2d(self.values, channels, 1, bias=False)
        if spectral:
            for layer in (self.query, self.key, self.value, self.out):
                spectral_norm(layer)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Attends over all positions."""
        height, width = x.size(2), x.size(3)
        query = self.query(x).view(-1, self.keys, height * width)
        key = F.max_pool2d(self.key(x), 2).view(-1, self.keys, height * width // 4)
        value = F.max_pool2d(self.value(x), 2).view(-1, self.values, height * width // 4)
        weights = F.softmax(torch.bmm(query.transpose(1, 2), key), dim=-1)
        mixed = torch.bmm(value, weights.transpose(1, 2))
        attended: Tensor = x + self.gain * self.out(mixed.view(-1, self.values, height, width))
        return attended
