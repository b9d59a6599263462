"""A quick copy is what `copy.deepcopy` makes."""

import copy
import warnings

import pytest
import torch
from torch import fx, nn

import gfx
from gfx import zoo
from gfx.ir.deepcopy import deepcopy
from support.oracle import alike


class Shares(nn.Module):
    """Holds one tensor, one view and one list in two places each."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.again = self.first
        table = torch.arange(6.0)
        self.register_buffer("table", table)
        self.register_buffer("part", table[2:])
        self.register_buffer("gone", None, persistent=False)
        self.sizes = self.other_sizes = [1, 2]
        self.settings = {"depth": 3, "of": self.first}
        self.me = [self]

    def forward(self, x):
        return self.second(self.first(x))


class Says(nn.Linear):
    """Says itself how it is copied."""

    def __deepcopy__(self, memo):
        return Says(1, 1)


def test_what_is_shared_inside_stays_shared_and_nothing_is_shared_outside():
    model = Shares()
    model.first.weight.grad = torch.ones(4, 4)
    twin = deepcopy(model)
    assert twin.second.weight is twin.first.weight
    assert twin.again is twin.first
    assert twin.sizes is twin.other_sizes
    assert twin.sizes is not model.sizes
    assert twin.settings["of"] is twin.first
    assert twin.me[0] is twin
    twin.table.zero_()
    assert not twin.part.any()
    assert model.part.any()
    memory = {t.data_ptr() for t in [*model.parameters(), *model.buffers()]}
    assert not memory & {t.data_ptr() for t in [*twin.parameters(), *twin.buffers()]}


@pytest.mark.parametrize("name", zoo.names())
def test_a_zoo_model_is_copied_as_deepcopy_does(name):
    torch.manual_seed(0)
    model = zoo.build(name, **({"ngf": 8} if "ngf" in zoo.options(name) else {"ch": 8}))
    twin, plain = deepcopy(model), copy.deepcopy(model)
    assert repr(twin) == repr(plain) == repr(model)
    assert list(twin.state_dict()) == list(plain.state_dict())
    for other in (twin, plain):
        for (_, a), (_, b) in zip(model.named_modules(), other.named_modules(), strict=True):
            assert type(a) is type(b)
            assert set(vars(a)) == set(vars(b))
        for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
            assert torch.equal(a, b)
            assert a.stride() == b.stride()
            assert a is not b


def test_hooks_flags_and_frozen_parameters_are_copied():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4).eval())
    model[0].weight.requires_grad_(False)
    model[0].register_forward_hook(torch.nn.functional.relu)
    twin = deepcopy(model)
    assert not twin[0].weight.requires_grad
    assert twin[0].bias.requires_grad
    assert not twin[1].training
    assert twin[0].training
    assert list(twin[0]._forward_hooks.values()) == [torch.nn.functional.relu]
    assert isinstance(twin[0].weight, nn.Parameter)


def test_a_class_that_says_how_it_is_copied_is_asked():
    assert deepcopy(nn.Sequential(Says(4, 4)))[0].weight.shape == (1, 1)


def test_a_graph_module_and_a_channels_last_buffer_are_copied():
    module = fx.symbolic_trace(Shares())
    image = torch.ones(1, 3, 4, 4).to(memory_format=torch.channels_last)
    module.first.register_buffer("image", image)
    twin = deepcopy(module)
    assert twin.code == module.code
    assert twin.first is not module.first
    assert twin.first.image.stride() == image.stride()
    x = torch.ones(1, 4)
    assert alike(twin(x), module(x))


def test_a_recurrent_layer_is_copied():
    model = nn.Sequential(nn.LSTM(4, 4))
    x = torch.ones(2, 1, 4)
    assert alike(deepcopy(model)(x)[0], model(x)[0])


def test_a_program_whose_weights_have_a_history_is_copied():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        layer = nn.utils.spectral_norm(nn.Conv2d(3, 4, 3))
    program = gfx.trace(nn.Sequential(layer), torch.randn(1, 3, 8, 8))
    program.module(torch.randn(1, 3, 8, 8))  # with gradients: the weight is no leaf any more
    weight = program.tensor("0.weight")
    twin = program.copy().tensor("0.weight")
    assert weight.grad_fn is not None
    assert torch.equal(twin, weight)
    assert twin is not weight
