"""Arguments by name stand at their places, and what code cannot spell is refused in a sentence."""

import io
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import gfx
from gfx.frontend.call_arguments import by_place

Call = Callable[[Tensor], Any]


class Calls(nn.Module):
    """Runs one function on its input."""

    def __init__(self, call: Callable[["Calls", Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, 1, 1))
        self.conv = nn.Conv2d(3, 3, 1)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, self.conv(x))


# (by place, by name)
PAIRS: dict[str, tuple[Any, Any]] = {
    "conv2d": (
        lambda m, x: F.conv2d(x, m.weight, None, 1),
        lambda m, x: F.conv2d(stride=1, bias=None, weight=m.weight, input=x),
    ),
    "layer": (lambda m, x: m.conv(x), lambda m, x: m.conv(input=x)),
    "axis": (lambda m, x: torch.sum(x, 1, True), lambda m, x: x.sum(keepdims=True, axis=1)),
    "cat": (lambda m, x: torch.cat([x, x], 1), lambda m, x: torch.cat(dim=1, tensors=[x, x])),
    "relu_": (lambda m, x: F.relu(x, True) + x, lambda m, x: F.relu(inplace=True, input=x) + x),
    "where": (
        lambda m, x: torch.where(x > 0, x, 2 * x),
        lambda m, x: torch.where(condition=x > 0, input=x, other=2 * x),
    ),
    "pool": (
        lambda m, x: F.max_pool2d(x, 2, 2),
        lambda m, x: F.max_pool2d(stride=2, kernel_size=2, input=x),
    ),
    "view": (lambda m, x: x.view((-1, 3, 64)), lambda m, x: x.view(size=(-1, 3, 64))),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_a_call_by_name_is_traced_and_pruned_like_one_by_place(pair: tuple[Any, Any]) -> None:
    x = torch.randn(2, 3, 8, 8)
    recipe = {"passes": ["fold_constants"]}
    made = []
    for call in pair:
        torch.manual_seed(0)
        made.append(gfx.apply(recipe, Calls(call).eval(), x))
    place, name = (small.graph for small in made)
    assert [str((n.args, n.kwargs)) for n in name.nodes] == [
        str((n.args, n.kwargs)) for n in place.nodes
    ]
    assert torch.equal(made[0](x), made[1](x))
    assert gfx.report(made[0]).before.macs == gfx.report(made[1]).before.macs


def test_inplace_by_place_is_seen() -> None:
    """Reads after an in-place operation read its result, however it is called."""
    program = gfx.trace(Calls(PAIRS["relu_"][0]).eval(), torch.randn(1, 3, 4, 4))
    relu = next(n for n in program.graph.nodes if n.target is F.relu)
    assert dict(relu.kwargs) == {"inplace": True}
    assert program.provenance.frontend == "symbolic"


def test_a_layer_whose_hook_reads_names_is_called_as_before() -> None:
    model = nn.Module()
    model.conv = nn.Conv2d(3, 3, 1)
    model.conv.register_forward_pre_hook(lambda m, a, k: (a, k), with_kwargs=True)
    graph = fx.Graph()
    node = graph.call_module("conv", (), {"input": graph.placeholder("x")})
    assert not by_place(model, graph)
    assert list(node.kwargs) == ["input"]


class Whole(nn.Module):
    """A submodule that no front end takes, so that it stays whole."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor, odd: object) -> Tensor:
        return x if x.sum() > 1e9 else self.conv(x)


class Hands(nn.Module):
    """Hands an object to a submodule."""

    def __init__(self, make: Call) -> None:
        super().__init__()
        self.whole = Whole()
        self.make = make

    def forward(self, x: Tensor) -> Tensor:
        return self.whole(x, self.make(x))


ODD: dict[str, Call] = {
    "list_iterator": lambda x: iter([x]),
    "generator": lambda x: (y for y in [x]),
    "zip": lambda x: zip([x], [x], strict=True),
    "map": lambda x: map(torch.relu, [x]),
    "function": lambda x: lambda y: y,
    "random.Random": lambda x: random.Random(0),
    "numpy.random._generator.Generator": lambda x: np.random.default_rng(0),
    "StringIO": lambda x: io.StringIO("text"),
    "object": lambda x: object(),
    "type": lambda x: float,
    "numpy.ndarray": lambda x: np.zeros(2),
    "torch._C.Generator": lambda x: torch.Generator(),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_code_cannot_spell_is_refused_by_name(kind: str) -> None:
    with pytest.raises(gfx.TraceError, match=f"whole is given an object of the class .*{kind}"):
        gfx.trace(Hands(ODD[kind]).eval(), torch.rand(1, 3, 4, 4))


def test_what_code_can_spell_is_taken() -> None:
    for value in (b"a", {1, 2}, range(3), torch.float32, slice(1, None), float("inf"), 1j):
        program = gfx.trace(Hands(lambda x, v=value: v).eval(), torch.rand(1, 3, 4, 4))
        assert [path for path, _ in program.provenance.opaque] == ["whole"]
