"""What every block is made of: the site it stands at, modules that chain, norms, activations."""

from dataclasses import dataclass, fields, replace
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

SECOND_INPUTS = ("", "label", "class", "map", "tokens")
LABELS, CLASSES, MAP_CHANNELS, LATENT, TOKENS = 3, 5, 2, 6, 3


def spec(kind: type) -> type:
    """Makes a frozen dataclass that prints only what differs from its defaults."""
    kind = dataclass(frozen=True, repr=False)(kind)
    kind.__repr__ = _short
    return kind


def _short(self: object) -> str:
    shown = [f for f in fields(self) if getattr(self, f.name) != f.default]
    return (
        f"{type(self).__name__}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in shown)})"
    )


@dataclass(frozen=True)
class Site:
    """What flows into a block."""

    channels: int
    size: int  # height and width
    second: str = ""  # kind of the second input
    image: int = 0  # channels of the first input if it is an image, else 0
    rank: int = 2  # spatial dimensions


@spec
class Block:
    """One layer or pattern of a generator; left out where it does not know the site's rank."""

    ranks: ClassVar[tuple[int, ...]] = (2,)

    def build(self, site: Site) -> tuple[nn.Module, Site]:
        raise NotImplementedError


class Layer(nn.Module):
    """A module called with the features and the generator's two inputs."""

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        raise NotImplementedError


class Plain(Layer):
    """Calls modules that look at nothing but the features."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        return self.layers(x)


class Chain(Layer):
    """Calls layers one after the other."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, image: Tensor, second: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, image, second)
        return x


def chain(blocks: tuple[Block, ...], site: Site) -> tuple[Chain, Site]:
    layers = []
    for block in blocks:
        if site.rank in block.ranks:
            layer, site = block.build(site)
            layers.append(layer)
    return Chain(layers), site


def moved(site: Site, channels: int = 0, size: int = 0) -> Site:
    return replace(site, channels=channels or site.channels, size=size or site.size)


def conv(rank: int = 2) -> type[nn.Module]:
    return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]


def deconv(rank: int = 2) -> type[nn.Module]:
    return (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1]


ACTS = ("none", "relu", "leaky", "prelu", "prelu_one", "tanh", "sigmoid", "silu", "functional")


class _Functional(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(x.mul(0.7), 0.2).clamp(-3, 3)


def act(kind: str, channels: int) -> list[nn.Module]:
    return {
        "none": lambda: [],
        "relu": lambda: [nn.ReLU(inplace=True)],
        "leaky": lambda: [nn.LeakyReLU(0.2)],
        "prelu": lambda: [nn.PReLU(channels)],
        "prelu_one": lambda: [nn.PReLU()],
        "tanh": lambda: [nn.Tanh()],
        "sigmoid": lambda: [nn.Sigmoid()],
        "silu": lambda: [nn.SiLU()],
        "functional": lambda: [_Functional()],
    }[kind]()


def resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="nearest")


class Style(nn.Module):
    """A vector per image: from the label or class, else from the means of the features."""

    def __init__(self, site: Site, out: int) -> None:
        super().__init__()
        self.given = site.second in ("label", "class")
        if site.second == "class":
            self.layer: nn.Module = nn.Embedding(CLASSES, out)
        else:
            self.layer = nn.Linear(LABELS if self.given else site.channels, out)

    def forward(self, x: Tensor, second: Tensor | None) -> Tensor:
        return self.layer(second if self.given else x.mean((2, 3)))
