"""More small generators: lookups by number, losses among the outputs, filters of other sizes."""

import torch
import torch.nn.functional as F
from torch import nn

from support.patterns import Base, pattern


@pattern((2, 3, 8, 8), (2, 4))
class BranchByNumber(nn.Module):
    """One of several linear layers is chosen for each image."""

    def __init__(self):
        super().__init__()
        self.first, self.to_rgb = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1)
        self.heads = nn.ModuleList(nn.Linear(4, 6) for _ in range(3))
        self.scale = nn.Linear(6, 8)

    def forward(self, x, z):
        styles = torch.stack([head(z) for head in self.heads], dim=1)
        which = (z[:, 0] > 0).long() + (z[:, 1] > 0).long()
        style = styles[torch.arange(z.shape[0]), which]
        return self.to_rgb(self.first(x) * self.scale(style)[:, :, None, None])


@pattern()
class GatheredPixels(Base):
    """The brightest places of each channel are looked up, and blended with their map."""

    def body(self, x):
        flat = x.flatten(2)
        place = flat.argmax(2, keepdim=True)
        return x + flat.gather(2, place).unsqueeze(-1) * F.max_pool2d(x, 3, 1, 1)


@pattern()
class SelectedRows(Base):
    def build(self):
        self.register_buffer("order", torch.tensor([3, 2, 1, 0, 7, 6, 5, 4]))

    def body(self, x):
        return torch.index_select(x, 2, self.order) + x[:, :, self.order] + x[..., self.order]


@pattern()
class ThresholdedMaximum(Base):
    """Filter response normalisation: the larger of two maps."""

    def build(self):
        for name in ("tau", "gamma", "beta"):
            setattr(self, name, nn.Parameter(torch.randn(1, 8, 1, 1)))

    def body(self, x):
        x = x * torch.rsqrt(torch.mean(x**2, dim=[2, 3], keepdim=True) + 1e-6)
        return torch.max(self.gamma * x + self.beta, self.tau)


@pattern()
class PaddedWithOnes(Base):
    def build(self):
        self.conv = nn.Conv2d(8, 8, 3)

    def body(self, x):
        return self.conv(F.pad(x, [1, 1, 1, 1], value=1)).relu()


@pattern()
class FactorisedKernel(Base):
    """A kernel that is a product of two thin matrices, scaled by its own norm."""

    def build(self):
        self.a, self.b = nn.Parameter(torch.randn(8, 4)), nn.Parameter(torch.randn(4, 72))
        self.g = nn.Parameter(torch.rand(8, 1, 1, 1))

    def body(self, x):
        w = (self.a @ self.b).reshape(8, 8, 3, 3)
        w = self.g * w / (w.pow(2).sum(dim=(1, 2, 3), keepdim=True) + 1e-3).sqrt()
        return F.conv2d(x, w, None, 1, 1)


@pattern()
class WrittenKernel(Base):
    """A linear layer writes the kernel: its rows can be narrowed, its columns stay."""

    def build(self):
        self.code, self.write = nn.Parameter(torch.randn(4)), nn.Linear(4, 8 * 8)

    def body(self, x):
        return F.conv2d(x, self.write(self.code).view(8, 8, 1, 1)).relu()


@pattern()
class MixedKernels(Base):
    """Kernels mixed for each image, its batch folded into groups, twice in a row."""

    def build(self):
        self.mix = nn.Linear(8, 3)
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(3, 8, 8, 3, 3)) for _ in range(2))

    def body(self, x):
        for weight in self.weights:
            b, _, h, w = x.shape
            mix = torch.sigmoid(self.mix(x.mean((2, 3))))
            kernel = torch.mm(mix, weight.view(3, -1)).view(-1, 8, 3, 3)
            out = F.conv2d(x.reshape(1, -1, h, w), kernel, padding=1, groups=b)
            x = out.view(b, 8, h, w).relu()
        return x


@pattern()
class EverySecond(Base):
    """Reads every second channel, beside a layer that reads all of them."""

    def build(self):
        self.wide, self.few = nn.Conv2d(8, 12, 1), nn.Conv2d(6, 8, 1)
        self.all = nn.Conv2d(12, 8, 1)

    def body(self, x):
        y = self.wide(x).relu()
        return self.few(y[:, 1::2]) + self.all(y) + self.few(y[..., ::2, :, :])
