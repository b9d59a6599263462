"""Sources, heads and the whole generator."""

import torch
from torch import Tensor, nn

from blocks.base import CLASSES, LABELS, LATENT, MAP_CHANNELS, Block, Site, chain, spec


@spec
class Source:
    """The first layer. Images are 8x8; latents become 4x4 maps."""

    kind: str = "image"  # image | latent (linear, view) | latent_map (transposed conv)
    out: int = 4
    second: str = ""  # "" | label (a vector) | class (an index) | map (an image)
    join: bool = False  # concatenate the label or map with the input image

    def inputs(self, batch: int) -> tuple[Tensor, ...]:
        shape = {"image": (3, 8, 8), "latent": (LATENT,), "latent_map": (LATENT, 1, 1)}[self.kind]
        first = torch.randn(batch, *shape, dtype=torch.float64)
        if not self.second:
            return (first,)
        if self.second == "class":
            return first, torch.randint(CLASSES, (batch,))
        shape = (LABELS,) if self.second == "label" else (MAP_CHANNELS, 8, 8)
        return first, torch.randn(batch, *shape, dtype=torch.float64)

    @property
    def joined(self) -> int:
        """Channels that the second input adds to the image."""
        if not self.join or self.kind != "image":
            return 0
        return {"label": LABELS, "map": MAP_CHANNELS}.get(self.second, 0)

    def build(self) -> tuple[nn.Module, Site]:
        size, image = (8, 3) if self.kind == "image" else (4, 0)
        return _Source(self), Site(self.out, size, self.second, image)


class _Source(nn.Module):
    def __init__(self, spec: Source) -> None:
        super().__init__()
        self.kind, self.out = spec.kind, spec.out
        self.second = spec.second if spec.joined else ""
        if spec.kind == "image":
            self.layer: nn.Module = nn.Conv2d(3 + spec.joined, spec.out, 3, padding=1)
        elif spec.kind == "latent":
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
    outputs: str = "one"  # one | two (image and mask) | features (image and what it was made of)
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


class OneInput(nn.Module):
    """Runs a spec on one input."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.source, site = spec.source.build()
        self.body, site = chain(spec.blocks, site)
        self.head = nn.Conv2d(site.channels, 3, 3, padding=1)
        self.mask = nn.Conv2d(site.channels, 1, 1) if spec.outputs == "two" else None
        self.outputs = spec.outputs

    def run(self, image: Tensor, second: Tensor | None) -> Tensor | tuple[Tensor, Tensor]:
        x = self.body(self.source(image, second), image, second)
        y = torch.tanh(self.head(x))
        if self.mask is not None:
            return y, torch.sigmoid(self.mask(x))
        return (y, x) if self.outputs == "features" else y

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return self.run(image, None)


class TwoInputs(OneInput):
    """Runs a spec on an image or latent and a second input."""

    def forward(self, image: Tensor, second: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return self.run(image, second)


def scatter(model: nn.Module) -> None:
    """Fills every tensor at random, so that no norm, gain or bias is trivial."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not tensor.is_floating_point():
            continue
        fan_in = max(1, tensor[0].numel()) if tensor.dim() > 1 else 1
        tensor.data.copy_(torch.randn(tensor.shape) * fan_in**-0.5)
        if name.endswith("running_var"):
            tensor.data.abs_().add_(0.5)


def parametrize(model: nn.Module, wrap: str) -> None:
    """Puts a norm on the weights of every convolution and linear layer."""
    for module in list(model.modules()):
        if wrap and isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            WRAPS[wrap](module)
