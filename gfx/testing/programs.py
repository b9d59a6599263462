"""Builds a few small generators to run a pass on, with cases that are hard for passes."""

from typing import Any

import torch
from torch import nn

from gfx.frontend import trace
from gfx.ir.ambient_modes import in_neutral_modes
from gfx.ir.program import Program
from gfx.ir.random_state import keep_random_state

__all__ = ["sample_programs"]


@in_neutral_modes
def sample_programs() -> tuple[Program, ...]:
    """Makes a few small generators, in eval mode and float64.

    They have what passes stumble over: norms, transposed, grouped and shared convolutions, skips,
    spectral norm, and a latent that becomes a map.

    Example:
        >>> [program.provenance.source for program in sample_programs()]
        ['Plain', 'Skips', 'Latent', 'Normed']
    """
    makers: tuple[tuple[type[nn.Module], tuple[int, ...]], ...] = (
        (Plain, (1, 3, 8, 8)),
        (Skips, (1, 3, 8, 8)),
        (Latent, (2, 6)),
        (Normed, (1, 3, 8, 8)),
    )
    with keep_random_state(seed=0):
        made = []
        for kind, shape in makers:
            model = kind().double()
            _give_statistics(model)
            made.append(trace(model.eval(), (torch.randn(shape, dtype=torch.float64),)))
    return tuple(made)


class Plain(nn.Module):
    """Runs conv, norm, strided and transposed convolutions in a line."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8),
            nn.InstanceNorm2d(8, affine=True),
            nn.Conv2d(8, 16, 1),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1, groups=2),
            nn.BatchNorm2d(8),
        )
        self.to_rgb = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Any) -> Any:
        return torch.tanh(self.to_rgb(self.body(x)))


class Skips(nn.Module):
    """Joins branches by adding and by concatenating, and calls one convolution twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.shared = nn.Conv2d(8, 8, 3, padding=1)
        self.after = nn.BatchNorm2d(8)
        self.to_rgb = nn.Conv2d(16, 3, 1)

    def forward(self, x: Any) -> Any:
        stem = torch.relu(self.norm(self.stem(x)))
        deep = stem + self.shared(self.after(self.shared(stem)))
        return self.to_rgb(torch.cat([stem, deep], 1))


class Latent(nn.Module):
    """Turns a latent into a map, and shuffles pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4 * 4 * 8)
        self.grow = nn.Conv2d(8, 32, 3, padding=1)
        self.norm = nn.BatchNorm2d(32)
        self.to_rgb = nn.Conv2d(8, 3, 1)

    def forward(self, z: Any) -> Any:
        x = self.linear(z).view(-1, 8, 4, 4)
        x = nn.functional.pixel_shuffle(self.norm(self.grow(x)), 2)
        return self.to_rgb(nn.functional.relu(x))


class Normed(nn.Module):
    """Has weights that are computed: spectral norm and weight norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.mid = nn.Conv2d(8, 8, 3, padding=1)
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 8, 3, padding=1))
        self.to_rgb = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 3, 1))

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.mid(torch.relu(self.stem(x))))
        return torch.tanh(self.to_rgb(torch.relu(self.spectral(x))))


def _give_statistics(model: nn.Module) -> None:
    """Gives norms statistics and scales that a wrong fold would be seen by."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
