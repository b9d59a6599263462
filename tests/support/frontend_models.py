"""Small models, each with one habit that trips up tracers."""

import math
import random
from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(inputs: int = 3, outputs: int = 4) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class Stem(nn.Module):
    """Has one convolution; the others do something with it."""

    def __init__(self, inputs: int = 3, outputs: int = 4) -> None:
        super().__init__()
        self.stem = conv(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x)


class ShapeBranch(Stem):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] > 4:
            x = F.avg_pool2d(x, 2)
        return self.stem(x)


class FlagBranch(Stem):
    def forward(self, x: Tensor, bright: bool = False) -> Tensor:
        return self.stem(x) + 1 if bright else self.stem(x)


class Length(Stem):
    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x) / len(x)


class Iteration(Stem):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([image * 2 for image in self.stem(x)])


class ShapeIteration(Stem):
    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return y.reshape([size * 1 for size in y.shape][:2] + [-1])  # noqa: RUF005 - the habit


class Rearranged(Stem):
    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        n, c, h, w = y.shape
        y = y.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4)
        return y.reshape(n, c * 4, h // 2, w // 2)


class Keywords(Stem):
    def forward(self, x: Tensor, **options: Tensor) -> Tensor:
        y = self.stem(x)
        return y * options["gain"] if "gain" in options else y


class Variadic(Stem):
    def forward(self, *images: Tensor) -> Tensor:
        return self.stem(torch.cat(images, 1))


class Asserting(Stem):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 3, "three channels"
        assert x.dim() == 4 and x.shape[2] % 2 == 0  # noqa: PT018 - the habit
        return self.stem(x)


class Outputs(Stem):
    def forward(self, x: Tensor) -> dict[str, object]:
        y = self.stem(x)
        return {"image": y, "parts": [y[:, :1], (y[:, 1:], None)], "count": 2}


class NoneDefault(Stem):
    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        y = self.stem(x)
        return y if noise is None else y + noise


class Scaling(Stem):
    """Changes the caller's tensor."""

    def forward(self, x: Tensor) -> Tensor:
        x *= 255
        return self.stem(x)


class Growing(Stem):
    """Keeps its growth state on the class."""

    step = 0

    def forward(self, x: Tensor) -> Tensor:
        type(self).step += 1
        return self.stem(x) * self.alpha

    alpha = 0.5


class Reversing(nn.Module):
    """Reverses the caller's list."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv()

    def forward(self, images: list[Tensor]) -> Tensor:
        images.reverse()
        return self.stem(images[0]) - images[1].mean()


class TypeAs(Stem):
    """Assigns to itself, so that a symbolic trace leaves a proxy behind."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.mean = self.mean.type_as(x)
        return self.stem(x - self.mean)


class TypeAsBuffer(Stem):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = self.mean.type_as(x)
        return self.stem(x - self.mean)


class WrongBranch(Stem):
    """A proxy is no tensor: symbolic trace succeeds with the wrong branch."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.isinstance(x, Tensor):
            return self.stem(x)
        return self.stem(x) * 2


class NumpyScalar(Stem):
    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x * np.float64(0.5)) + np.float32(1)
        return y.mul(np.sqrt(2.0)).transpose(np.int64(2), np.int64(3))


class LongType(Stem):
    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x) + x[:, :1].type(torch.LongTensor).float()


class Drawing(Stem):
    """Draws noise inside forward."""

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x) + torch.randn(x.shape[0], 1, *x.shape[2:])


class HiddenDrawing(Stem):
    """Its noise has no weight yet, so that one baked draw would go unnoticed."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x) + self.gain * torch.randn(1, 4, 8, 8)


class PythonDrawing(Stem):
    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x) * (1 if random.random() < 2 else 0)


class InplaceStatement(Stem):
    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y.mul_(3)
        F.relu(y, inplace=True)
        return y + 1


class ItemAssignment(Stem):
    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y[:, 0] = 0.5
        return y


class MadeInside(Stem):
    def forward(self, x: Tensor) -> Tensor:
        return nn.Upsample(scale_factor=2)(nn.ReLU()(self.stem(x)))


class LikeConv2d(nn.Conv2d):
    """Adds nothing but its constructor."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)


class ScaledConv2d(nn.Conv2d):
    """Computes something of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight / math.sqrt(self.in_channels), self.bias)


class Subclasses(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.plain = LikeConv2d(3, 4)
        self.scaled = ScaledConv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(self.plain(x))


class Normed(nn.Module):
    """Has all kinds of norms; `branch` makes it fit for torch.export only."""

    def __init__(self, branch: bool = False) -> None:
        super().__init__()
        self.branch = branch
        self.old = nn.utils.spectral_norm(conv())
        self.bn = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.new = nn.utils.parametrizations.spectral_norm(conv(4, 4))
        self.weighted = nn.utils.parametrizations.weight_norm(conv(4, 4))
        self.norm = nn.InstanceNorm2d(4, affine=True)
        self.drop = nn.Dropout(0.5)
        self.up = nn.ConvTranspose2d(4, 4, 4, 2, 1)
        self.tanh = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        if self.branch and x.shape[2] < 2:
            return x
        x = self.act(self.bn(self.old(x)))
        x = x + self.drop(self.norm(self.weighted(self.new(x))))
        return self.tanh(self.up(x))


class Shared(nn.Module):
    """Calls one convolution twice and shares a weight with another."""

    def __init__(self, branch: bool = False) -> None:
        super().__init__()
        self.branch = branch
        self.one = conv(3, 3)
        self.two = conv(3, 3)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        if self.branch and x.shape[2] < 2:
            return x
        return self.two(self.one(self.one(x)))


class Functional(nn.Module):
    """Uses functions on its own parameters, under control flow."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.bias = nn.Parameter(torch.randn(4))
        self.register_buffer("mean", torch.randn(4))
        self.register_buffer("var", torch.rand(4) + 1, persistent=False)
        self.table = nn.Parameter(torch.randn(5, 4))
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != 3:
            raise ValueError("three channels")
        y = F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), self.weight, self.bias)
        y = F.batch_norm(y, self.mean, self.var)
        y = F.leaky_relu(F.instance_norm(y), 0.2)
        y = F.interpolate(y, scale_factor=2) + F.interpolate(y, size=(16, 16), mode="bilinear")
        y = y + F.embedding(torch.tensor([1, 2]), self.table).sum(0).view(1, 4, 1, 1)
        y = 1 - y.clamp(-1, 1)[:, :, 1:, ::2] * torch.tensor(0.5)
        y = F.group_norm(F.gelu(y), 2) + F.silu(y) + F.softplus(y)
        attention = torch.softmax(torch.einsum("nchw,ndhw->ncd", y, y) / 10, dim=-1)
        y = torch.einsum("ncd,ndhw->nchw", attention, y)
        y = F.linear(y.permute(0, 2, 3, 1), self.fc.weight).permute(0, 3, 1, 2)
        first, second = y.chunk(2, 1)
        return torch.cat([first, second.abs().flip(3)], 1).contiguous()


class NoGrad(Stem):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] < 1:
            return x
        with torch.no_grad():
            scale = x.mean()
        return self.stem(x) * scale


class Statistics(nn.Module):
    """Updates a buffer of its own in training."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv()
        self.register_buffer("running", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        if self.training:
            self.running.mul_(0.9).add_(y.mean((0, 2, 3)), alpha=0.1)
        return y - self.running.view(1, -1, 1, 1)


class Initialised(Stem):
    """Asks a buffer whether it has been set up."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ready", torch.tensor(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x) if self.ready == 1 else x


class ByNumpy(nn.Module):
    """Leaves torch: neither front end sees through it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(np.tanh(x.detach().numpy()))


class Opaque(nn.Module):
    """Has one submodule that defeats both front ends, under control flow or not."""

    def __init__(self, branch: bool = False) -> None:
        super().__init__()
        self.branch = branch
        self.body = nn.Sequential(conv(), ByNumpy(), conv(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        if self.branch and x.shape[2] < 2:
            return x
        return self.body(x) * 2


class ValueBranch(Stem):
    """Lets a value decide."""

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x) * (2 if x.mean() > 0 else 3)


class Attending(nn.Module):
    """Has layers that return tuples, under control flow."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.memory = nn.LSTM(8, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] < 2:
            return x
        y, _ = self.attention(x, x, x)
        z, (_, cell) = self.memory(y)
        return z + cell.sum()


class SizedUp(nn.Module):
    """Gives a layer a size that is only known when it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, 2, 1)
        self.up = nn.ConvTranspose2d(4, 3, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] < 2:
            return x
        return self.up(self.down(x), output_size=x.shape[2:])


class WrittenViews(Stem):
    """Writes to a tensor through views of it, under control flow."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] < 2:
            return x
        y = self.stem(x)
        y.view(x.shape[0], -1).mul_(2)
        y[:, 0] += 1
        return y


class Hopeless(Stem):
    def forward(self, x: Tensor) -> Tensor:
        return self.stem(torch.from_numpy(x.numpy() * 2))


class Positional(Stem):
    """Takes a number between two tensors."""

    def forward(self, x: Tensor, gain: float, y: Tensor) -> Tensor:
        return self.stem(x) * gain + y


class Frozen(OrderedDict):
    """A dictionary that may not be changed, as libraries keep their settings in."""

    def update(self, *args: object, **kwargs: object) -> None:
        raise TypeError("frozen")

    def clear(self) -> None:
        raise TypeError("frozen")


class FrozenSettings(Stem):
    def __init__(self) -> None:
        super().__init__()
        self.settings = Frozen(gain=2.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x) * self.settings["gain"]


class Toolbox(nn.Module):
    """A module without a forward, whose methods others call."""

    def double(self, x: Tensor) -> Tensor:
        return x * 2


class HelpedConv2d(nn.Conv2d):
    def scaled(self, x: Tensor) -> Tensor:
        return self(x) * 3


class Helped(Stem):
    def __init__(self) -> None:
        super().__init__()
        self.tools = Toolbox()
        self.helped = HelpedConv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.helped.scaled(self.tools.double(self.stem(x)))


class MaskedWrite(Stem):
    """Picks pixels by their value."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return y[y > 0].sum() + y


class Merged(Stem):
    """Computes the weight of a layer in forward; `early` looks at the old one first."""

    def __init__(self, early: bool = False) -> None:
        super().__init__()
        self.early = early
        self.merged = conv()

    def forward(self, x: Tensor) -> Tensor:
        y = self.merged(x) if self.early else 0
        self.merged.weight.data = self.stem.weight.data * 2
        return self.merged(x) + y
