"""What every block is made of: the site it stands at, modules that chain, norms, activations."""

from dataclasses import dataclass, fields

from torch import Tensor, nn
from torch.nn import functional as F

SECOND_INPUTS = ("", "label", "class", "map")
LABELS, CLASSES, MAP_CHANNELS, LATENT = 3, 5, 2, 6


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


@spec
class Block:
    """One layer or pattern of a generator."""

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
        layer, site = block.build(site)
        layers.append(layer)
    return Chain(layers), site


def moved(site: Site, channels: int = 0, size: int = 0) -> Site:
    return Site(channels or site.channels, size or site.size, site.second, site.image)


NORMS = ("none", "batch", "batch_plain", "instance", "instance_affine")
ACTS = ("none", "relu", "leaky", "prelu", "prelu_one", "tanh", "sigmoid", "silu")


def norm(kind: str, channels: int) -> list[nn.Module]:
    return {
        "none": lambda: [],
        "batch": lambda: [nn.BatchNorm2d(channels)],
        "batch_plain": lambda: [nn.BatchNorm2d(channels, affine=False)],
        "instance": lambda: [nn.InstanceNorm2d(channels)],
        "instance_affine": lambda: [nn.InstanceNorm2d(channels, affine=True)],
    }[kind]()


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
    }[kind]()


def resized(x: Tensor, size: int) -> Tensor:
    return F.interpolate(x, size=(size, size), mode="nearest")
