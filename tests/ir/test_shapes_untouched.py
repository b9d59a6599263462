"""What shape propagation leaves alone: parameters, buffers, attributes, inputs."""

import operator

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.utils import parametrizations, spectral_norm

from gfx.errors import InputError
from gfx.ir.shapes.propagate import propagate
from support.programs import by_hand, shapes


def snapshot(model):
    """Everything a module holds: tensors by value, other attributes by name."""
    return {
        (path, name): value.detach().clone() if isinstance(value, torch.Tensor) else str(value)
        for path, module in model.named_modules()
        for group in (vars(module), module._parameters, module._buffers)
        for name, value in group.items()
        if not name.startswith("_")
    }


def assert_untouched(model, before):
    after = snapshot(model)
    assert after.keys() == before.keys()
    for key, value in before.items():
        same = torch.equal(after[key], value) if isinstance(value, torch.Tensor) else None
        assert after[key] == value if same is None else same, key
    assert not any(isinstance(v, FakeTensor) for v in after.values())


def test_running_statistics_stay_as_they_are():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    before = snapshot(model)
    shapes(model, torch.ones(2, 3, 8, 8))
    assert_untouched(model, before)
    assert model.training
    assert model[1].training


@pytest.mark.parametrize("style", [spectral_norm, parametrizations.spectral_norm])
@pytest.mark.parametrize("training", [True, False])
def test_spectral_norm_stays_as_it_is(style, training):
    model = nn.Sequential(style(nn.Conv2d(3, 4, 3))).train(training)
    model(torch.ones(1, 3, 8, 8))  # the old hook leaves a weight with a history
    before = snapshot(model)
    assert shapes(model, torch.ones(1, 3, 8, 8))["output"] == (1, 4, 6, 6)
    assert_untouched(model, before)


class Cache(nn.Module):
    """Creates attributes and fills a list when called."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.seen = []

    def forward(self, x):
        self.grid = torch.arange(x.shape[-1])
        self.seen.append(x)
        self.register_buffer("count", torch.zeros(1))
        return self.conv(x) + self.grid


def test_attributes_made_by_a_forward_stay_out_of_the_program():
    model = nn.Sequential(Cache())
    before = snapshot(model)
    assert shapes(model, torch.ones(1, 3, 8, 8), opaque=(Cache,))["output"] == (1, 4, 8, 8)
    assert_untouched(model, before)
    assert not hasattr(model[0], "grid")
    assert model[0].seen == []


def test_in_place_operations_on_buffers_and_inputs_stay_fake():
    model = nn.Module()
    model.register_buffer("calls", torch.zeros(3))

    def write(graph, x):
        calls = graph.call_method("add_", (graph.get_attr("calls"), 1))
        return graph.call_function(operator.imul, (x, calls))

    x = torch.zeros(2, 3)
    made = by_hand(model, write, x)
    before = snapshot(made.module)
    propagate(made)
    assert_untouched(made.module, before)
    assert torch.equal(x, torch.zeros(2, 3))


class Numpy(nn.Module):
    """Leaves torch, where fake tensors cannot follow."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.conv = spectral_norm(nn.Conv2d(3, 2, 1))

    def forward(self, x):
        x = self.conv(self.norm(x)) + torch.rand(1)
        self.last = x
        return torch.from_numpy(x.detach().numpy().repeat(2, axis=1)), x


def test_a_leaf_that_refuses_fake_tensors_runs_on_zeros_as_a_copy():
    def write(graph, x):
        pair = graph.call_module("leaf", (x,))
        left, right = (graph.call_function(operator.getitem, (pair, i)) for i in (0, 1))
        return graph.call_method("relu", (left,)), right

    x = torch.ones(2, 3, 4, 4)
    made = by_hand(nn.ModuleDict({"leaf": Numpy()}), write, x)
    made.module.leaf(x)
    before, rng = snapshot(made.module), torch.get_rng_state()
    propagate(made)
    relu = next(n for n in made.nodes() if n.target == "relu")
    assert relu.meta["val"].shape == (2, 4, 4, 4)
    assert isinstance(relu.meta["val"], FakeTensor)
    assert_untouched(made.module, before)
    assert torch.equal(torch.get_rng_state(), rng)


def test_a_leaf_on_the_meta_device_that_refuses_fake_tensors_is_named():
    model = nn.Sequential(Numpy()).to("meta")
    with pytest.raises(InputError, match=r"node _0 \(Numpy\[0\]\) does not run on .* \(1x3x4x4\)"):
        shapes(model, torch.ones(1, 3, 4, 4), opaque=(Numpy,))
