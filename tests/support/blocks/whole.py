"""Sources, heads and the whole generator."""

from typing import Any

import torch
from torch import Tensor, nn

from support.blocks.base import (
    CLASSES,
    LABELS,
    LATENT,
    MAP_CHANNELS,
    TOKENS,
    Block,
    Site,
    Style,
    chain,
    conv,
    spec,
)

# what the first input is, as shapes, and how a latent becomes a map
SHAPES = {"image": (3, 8, 8), "line": (3, 8), "volume": (2, 4, 4, 4), "latent_map": (LATENT, 1, 1)}
LATENTS = ("latent", "latent_inferred", "latent_unflatten", "latent_last", "constant")


@spec
class Source:
    """The first layer. Images are 8x8; latents become 4x4 maps; a line is 1D, a volume 3D."""

    kind: str = "image"  # one of SHAPES and LATENTS
    out: int = 4
    second: str = ""  # "" | label (a vector) | class (an index) | map (an image) | tokens
    join: bool = False  # concatenate the label or map with the input image

    def inputs(self, batch: int, size: int = 8) -> tuple[Tensor, ...]:
        shape = SHAPES.get(self.kind, (LATENT,))
        if self.kind == "image":
            shape = (3, size, size)
        first = torch.randn(batch, *shape, dtype=torch.float64)
        if not self.second:
            return (first,)
        if self.second == "class":
            return first, torch.randint(CLASSES, (batch,))
        shape = {"label": (LABELS,), "tokens": (5, TOKENS)}.get(
            self.second, (MAP_CHANNELS, size, size)
        )
        return first, torch.randn(batch, *shape, dtype=torch.float64)

    @property
    def joined(self) -> int:
        """Channels that the second input adds to the image."""
        if not self.join or self.kind != "image":
            return 0
        return {"label": LABELS, "map": MAP_CHANNELS}.get(self.second, 0)

    def build(self) -> tuple[nn.Module, Site]:
        size = 8 if self.kind in ("image", "line") else 4
        rank = {"line": 1, "volume": 3}.get(self.kind, 2)
        image = 3 if self.kind == "image" else 0
        return _Source(self), Site(self.out, size, self.second, image, rank)


class _Source(nn.Module):
    def __init__(self, spec: Source) -> None:
        super().__init__()
        self.kind, self.out = spec.kind, spec.out
        self.second = spec.second if spec.joined else ""
        if spec.kind in ("line", "volume"):
            rank = len(SHAPES[spec.kind]) - 1
            self.layer: nn.Module = conv(rank)(SHAPES[spec.kind][0], spec.out, 3, padding=1)
        elif spec.kind == "image":
            self.layer = nn.Conv2d(3 + spec.joined, spec.out, 3, padding=1)
        elif spec.kind == "constant":
            self.layer = Style(Site(LATENT, 4), spec.out).layer
            self.map = nn.Parameter(torch.empty(1, spec.out, 4, 4))
        elif spec.kind in LATENTS:
            self.layer = nn.Linear(LATENT, spec.out * 16)
        else:
            self.layer = nn.ConvTranspose2d(LATENT, spec.out, 4, bias=False)

    def forward(self, image: Tensor, second: Tensor | None) -> Tensor:
        if self.second == "label":
            label = second.view(second.size(0), second.size(1), 1, 1)
            second = label.expand(label.size(0), label.size(1), image.size(2), image.size(3))
        if self.second:
            image = torch.cat([image, second], dim=1)
        x = self.layer(image)
        if self.kind == "constant":
            return self.map.repeat(image.shape[0], 1, 1, 1) * x[:, :, None, None]
        if self.kind == "latent_inferred":
            return x.view(x.size(0), -1, 4, 4)
        if self.kind == "latent_unflatten":
            return x.unflatten(1, (self.out, 4, 4))
        if self.kind == "latent_last":
            return x.view(-1, 4, 4, self.out).permute(0, 3, 1, 2).contiguous()
        return x.view(-1, self.out, 4, 4) if self.kind == "latent" else x


WRAPS = {
    "spectral": nn.utils.parametrizations.spectral_norm,
    "spectral_hook": nn.utils.spectral_norm,
    "weight": nn.utils.parametrizations.weight_norm,
}


@spec
class Spec:
    """A whole generator: source, blocks, one or two heads of three channels.

    Example: `model, inputs = Spec(blocks=(Conv(act="relu"),)).build()`
    """

    source: Source = Source()
    blocks: tuple[Block, ...] = ()
    outputs: str = "one"  # one | two (image and mask) | dict | features (image and its features)
    batch: int = 1
    seed: int = 0
    wrap: str = ""  # "" | spectral | spectral_hook | weight: how weights are parametrized

    def build(self) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """Returns the model in eval mode and example inputs, both float64."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            kind = TwoInputs if self.source.second else OneInput
            model = kind(self).double()
            scatter(model)
            parametrize(model, self.wrap)
            return model.eval(), self.source.inputs(self.batch)

    def inputs(self, batch: int, size: int = 8) -> tuple[Tensor, ...]:
        """Draws inputs of another batch size, images of another size."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + 1)
            return self.source.inputs(batch, size)


class OneInput(nn.Module):
    """Runs a spec on one input."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.source, site = spec.source.build()
        self.body, site = chain(spec.blocks, site)
        self.head = conv(site.rank)(site.channels, 3, 3, padding=1)
        two = spec.outputs in ("two", "dict")
        self.mask = conv(site.rank)(site.channels, 1, 1) if two else None
        self.outputs = spec.outputs

    def run(self, image: Tensor, second: Tensor | None) -> Any:
        x = self.body(self.source(image, second), image, second)
        y = torch.tanh(self.head(x))
        if self.mask is not None:
            mask = torch.sigmoid(self.mask(x))
            return {"image": y, "mask": mask} if self.outputs == "dict" else (y, mask)
        return (y, x) if self.outputs == "features" else y

    def forward(self, image: Tensor) -> Any:
        return self.run(image, None)


class TwoInputs(OneInput):
    """Runs a spec on an image or latent and a second input."""

    def forward(self, image: Tensor, second: Tensor) -> Any:
        return self.run(image, second)


def scatter(model: nn.Module) -> None:
    """Fills every tensor at random, so that no norm, gain or bias is trivial."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not tensor.is_floating_point():
            continue
        fan_in = max(1, tensor[0].numel()) if tensor.dim() > 1 else 1
        tensor.data.copy_(torch.randn(tensor.shape) * fan_in**-0.5)
        if name.endswith("running_var"):
            tensor.data.abs_().add_(0.5)  # a variance


def parametrize(model: nn.Module, wrap: str) -> None:
    """Puts a norm on the weights of every convolution and linear layer that is only called."""
    for module in list(model.modules()):
        if (
            wrap
            and not hasattr(module, "bare")
            and isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
        ):
            WRAPS[wrap](module)
    for module in model.modules():
        vars(module).pop("bare", None)  # a mark of this function alone
