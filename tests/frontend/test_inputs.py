"""Inferring example inputs: what the first layers, names and attributes say."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from gfx import zoo
from gfx.errors import InputError
from gfx.frontend import trace
from gfx.frontend.inputs.infer import infer

# parameters are not needed to infer shapes; on the meta device they cost no time
META = torch.device("meta")


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    items = infer(model).arguments.items
    return {item.name: tuple(item.value.shape) for item in items if item.is_input}


class Body(nn.Module):
    """Has some layers by name; subclasses say how they are called."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


ZOO = {
    "resnet_9blocks": {"image": (1, 3, 256, 256)},
    "mobile_resnet_9blocks": {"image": (1, 3, 256, 256)},
    "unet_256": {"image": (1, 3, 256, 256)},
    "spade": {"labels": (1, 36, 256, 256)},
    "pix2pixhd_global": {"image": (1, 36, 256, 256)},
    "stargan": {"image": (1, 3, 256, 256), "labels": (1, 5)},
    "srresnet": {"image": (1, 3, 256, 256)},
    "dcgan": {"z": (1, 100, 1, 1)},
    "sagan": {"z": (1, 128)},
    "biggan_128": {"z": (1, 120), "label": (1,)},
}


@pytest.mark.parametrize("name", zoo.names())
def test_zoo_generators_get_inputs_that_run(name: str) -> None:
    with META:
        model = zoo.build(name)
    assert shapes(model) == ZOO[name]


class Mlp(Body):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.view(-1, 784))


class FlatMlp(Body):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class FromLatent(Body):
    def forward(self, z: Tensor) -> Tensor:
        return self.up(z.view(-1, 8, 4, 4))


class Lifted(Body):
    def forward(self, z: Tensor) -> Tensor:
        return self.up(z[:, :, None, None])


class Pair(Body):
    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        return self.stem(torch.cat([image, reference], dim=1))


class Inpainting(Body):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.stem(torch.cat((x * mask, mask), 1))


class Conditional(Body):
    """Concatenates an embedding with a latent."""

    def forward(self, noise: Tensor, y: Tensor) -> Tensor:
        return self.fc(torch.cat([self.embed(y), noise], 1))


class OneHot(Body):
    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        hot = F.one_hot(label, 10).to(z.dtype)
        return self.fc(z) + self.label(hot)


class Split(Body):
    def forward(self, z: Tensor) -> Tensor:
        pieces = z.split(4, 1)
        return self.one(pieces[0]) + self.two(pieces[1]) + self.two(pieces[2])


class Chunked(Body):
    def forward(self, z: Tensor) -> Tensor:
        one, two = z.chunk(2, 1)
        return self.one(one) * self.two(two)


class Timed(Body):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        wave = torch.sin(t[:, None] * torch.ones(8, device=x.device))
        return self.stem(x) + self.time(wave)[:, :, None, None]


class Branching(Body):
    """Asks for the shape before anything reads the input."""

    latent_dim = 7

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__(**layers)
        self.latent_dim = 6

    def forward(self, z: Tensor) -> Tensor:
        if z.shape[1] != 6:
            raise ValueError("the latent has 6 numbers")
        return self.fc(z)


class FixedSize(Body):
    """Runs at one image size only."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.avg_pool2d(self.stem(x), 8).flatten(1))


class SaidSize(FixedSize):
    def __init__(self, **layers: nn.Module) -> None:
        super().__init__(**layers)
        self.img_size = 48


class ByFunction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 5, 3, 3))
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.relu(x), self.weight * self.gain)


class Shuffled(Body):
    def forward(self, x: Tensor) -> Tensor:
        return self.stem(F.pixel_unshuffle(x, 2))


class Optional(Body):
    def forward(self, x: Tensor, noise: Tensor | None = None, *, gain: float = 1.0) -> Tensor:
        return self.stem(x) * gain if noise is None else self.stem(x) + noise


class KeywordOnly(Body):
    def forward(self, x: Tensor, *, y: Tensor) -> Tensor:
        return self.stem(x) + self.stem(y)


def conv(inputs: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, 4, 3, padding=1)


CASES = [
    (nn.Sequential(nn.Conv2d(1, 4, 3)), {"input": (1, 1, 256, 256)}),
    (nn.Sequential(nn.Conv1d(2, 4, 3)), {"input": (1, 2, 256)}),
    (nn.Sequential(nn.Conv3d(2, 4, 3)), {"input": (1, 2, 64, 64, 64)}),
    (
        nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(6, 4, 3, groups=2)),
        {"input": (1, 6, 256, 256)},
    ),
    (nn.Sequential(nn.BatchNorm2d(5), nn.Conv2d(5, 4, 3)), {"input": (1, 5, 256, 256)}),
    (nn.Sequential(nn.ConvTranspose2d(7, 4, 4)), {"input": (1, 7, 1, 1)}),
    (nn.Sequential(nn.ConvTranspose1d(7, 4, 4)), {"input": (1, 7, 1)}),
    (nn.Sequential(nn.Linear(9, 4)), {"input": (1, 9)}),
    (
        nn.Sequential(nn.Linear(9, 32), nn.Unflatten(1, (2, 4, 4)), nn.Conv2d(2, 3, 3)),
        {"input": (1, 9)},
    ),
    (nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2)), {"input": (1,)}),
    (Mlp(fc=nn.Linear(784, 4)), {"x": (1, 784)}),
    (FlatMlp(fc=nn.Linear(784, 4)), {"x": (1, 784)}),
    (FromLatent(up=nn.Conv2d(8, 4, 3)), {"z": (1, 128)}),
    (Lifted(up=nn.ConvTranspose2d(8, 4, 4)), {"z": (1, 8)}),
    (Pair(stem=conv(6)), {"image": (1, 3, 256, 256), "reference": (1, 3, 256, 256)}),
    (Inpainting(stem=conv(4)), {"x": (1, 3, 256, 256), "mask": (1, 1, 256, 256)}),
    (Conditional(embed=nn.Embedding(5, 6), fc=nn.Linear(26, 3)), {"noise": (1, 20), "y": (1,)}),
    (OneHot(fc=nn.Linear(8, 3), label=nn.Linear(10, 3)), {"z": (1, 8), "label": (1,)}),
    (Split(one=nn.Linear(4, 3), two=nn.Linear(4, 3)), {"z": (1, 12)}),
    (Chunked(one=nn.Linear(5, 3), two=nn.Linear(5, 3)), {"z": (1, 10)}),
    (Timed(stem=conv(), time=nn.Linear(8, 4)), {"x": (1, 3, 256, 256), "t": (1,)}),
    (Branching(fc=nn.Linear(6, 3)), {"z": (1, 6)}),
    (FixedSize(stem=conv(), fc=nn.Linear(4 * 64, 3)), {"x": (1, 3, 64, 64)}),
    (SaidSize(stem=conv(), fc=nn.Linear(4 * 36, 3)), {"x": (1, 3, 48, 48)}),
    (ByFunction(), {"x": (1, 5, 256, 256)}),
    (Shuffled(stem=conv(12)), {"x": (1, 3, 256, 256)}),
    (Optional(stem=conv()), {"x": (1, 3, 256, 256)}),
    (KeywordOnly(stem=conv()), {"x": (1, 3, 256, 256), "y": (1, 3, 256, 256)}),
]


@pytest.mark.parametrize(
    ("model", "expected"), CASES, ids=[f"{i}-{type(m).__name__}" for i, (m, _) in enumerate(CASES)]
)
def test_inputs_follow_from_the_first_layers(
    model: nn.Module, expected: dict[str, tuple[int, ...]]
) -> None:
    assert shapes(model) == expected


def test_what_was_assumed_is_stated() -> None:
    program = trace(Inpainting(stem=conv(4)))
    assert program.provenance.assumed == (
        "assumed x: 1x3x256x256 float32 (Conv2d 'stem' takes 4 channels)",
        "assumed mask: 1x1x256x256 float32 (Conv2d 'stem' takes 4 channels)",
    )


def test_inputs_have_the_type_of_the_model_and_do_not_change() -> None:
    model = Conditional(embed=nn.Embedding(5, 6), fc=nn.Linear(26, 3)).double()
    first, second = (trace(model).example_inputs for _ in range(2))
    assert [x.dtype for x in first] == [torch.float64, torch.int64]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert float(first[0].std()) > 0.1


def test_inputs_are_on_the_device_of_the_model() -> None:
    program = trace(nn.Sequential(nn.Conv2d(3, 4, 3)).to("meta"))
    assert program.example_inputs[0].device == META


def test_graph_without_example_inputs_is_inferred_too() -> None:
    program = trace(fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 4, 3))))
    assert program.provenance.frontend == "given"
    assert program.provenance.assumed == (
        "assumed input: 1x3x256x256 float32 (Conv2d '0' takes 3 channels)",
    )


def test_example_inputs_stay_large_where_smaller_ones_are_compared() -> None:
    class Watching(Body):
        sizes: list[int] = []  # noqa: RUF012 - shared on purpose

        def forward(self, x: Tensor) -> Tensor:
            if type(x) is Tensor and isinstance(x.shape[3], int):
                SEEN.seen.append(x.shape[3])
            return self.stem(x)

    SEEN.seen.clear()
    program = trace(Watching(stem=conv()))
    assert program.example_inputs[0].shape[3] == 256
    assert SEEN.seen == [64]


class Sizes:
    """What runs have seen; the front end puts back what lies in lists and attributes."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen: list[int] = []


SEEN = Sizes()


def test_models_that_look_at_values_run_for_real() -> None:
    class Looking(Body):
        def forward(self, x: Tensor) -> Tensor:
            return self.stem(x) * x.mean().item()

    assert shapes(Looking(stem=conv())) == {"x": (1, 3, 256, 256)}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            FixedSize(stem=conv(), fc=nn.Linear(7, 3)),
            r"cannot infer the inputs of FixedSize: tried x: 1x3x256x256 float32 \(RuntimeError: "
            r".*; and 4 more; pass example_inputs=, in the shell --input 1x3x256x256",
        ),
        (nn.ReLU(), "cannot infer the inputs of ReLU: no layer says what it takes; pass"),
        (nn.Sequential(nn.Linear(3, 2), nn.Conv2d(3, 2, 3)), "tried input: 1x3 float32"),
    ],
)
def test_inference_that_does_not_run_is_an_error(model: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        infer(model)


def test_model_that_needs_nothing_is_an_error() -> None:
    class Free(Body):
        def forward(self, x: Any = None) -> Tensor:
            return self.stem(x)

    with pytest.raises(InputError, match="has no argument without a default"):
        infer(Free(stem=conv()))
