"""Shape propagation: what it finds, and what it says when something does not run."""

import copy
import gc
import weakref

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from gfx import zoo
from gfx.errors import InputError
from gfx.ir.shapes.fake_runner import leaf_results
from gfx.ir.shapes.propagate import propagate, shapes_hold
from support.oracle import alike
from support.programs import by_hand, program, shapes
from support.strategies import generators


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(generators())
def test_shapes_and_dtypes_are_those_of_a_real_run(generator):
    model, inputs = generator
    made = program(model, *inputs)
    propagate(made)
    run = fx.Interpreter(made.module, garbage_collect_values=False)
    with torch.no_grad():
        run.run(*(x.clone() for x in inputs))
    for node in made.nodes():
        real, fake = run.env[node], node.meta["val"]
        if isinstance(real, torch.Tensor):
            assert (fake.shape, fake.dtype, fake.device) == (real.shape, real.dtype, real.device)
        elif node.op != "output" and not isinstance(real, tuple | list):
            assert fake == real


@pytest.mark.parametrize("name", zoo.names())
def test_every_zoo_generator_propagates_without_storage(name):
    with torch.device("meta"):
        model = zoo.build(name)
    made = program(model, *zoo.example_inputs(name))
    propagate(made)
    tensors = [n.meta["val"] for n in made.nodes() if isinstance(n.meta["val"], torch.Tensor)]
    assert all(isinstance(t, FakeTensor) for t in tensors)
    assert all(t.untyped_storage().device.type == "meta" for t in tensors)


@pytest.mark.parametrize("size", [64, 1024, 100_000])
def test_the_size_of_the_image_allocates_nothing(size):
    model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.InstanceNorm2d(64), nn.ReLU())
    with torch.device("meta"):
        x = torch.empty(1, 3, size, size)
    assert shapes(model, x)["output"] == (1, 64, size, size)


def test_weight_norm_as_parametrization_runs():
    model = nn.Sequential(parametrizations.weight_norm(nn.ConvTranspose2d(4, 8, 4, 2, 1)))
    assert shapes(model, torch.ones(1, 4, 5, 5))["output"] == (1, 8, 10, 10)


def noisy(graph, x):
    """Names a device, and draws random numbers."""
    noise = graph.call_function(torch.randn, (1, 4, 8, 8), {"device": "cpu"})
    noise = graph.call_function(torch.add, (noise, graph.call_function(torch.zeros, (8,))))
    return graph.call_function(torch.add, (graph.call_module("conv", (x,)), noise))


@pytest.mark.parametrize("input_device", ["cpu", "meta"])
@pytest.mark.parametrize("model_device", ["cpu", "meta"])
def test_the_meta_device_mixes_with_device_literals(input_device, model_device):
    model = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 1)}).to(model_device)
    made = by_hand(model, noisy, torch.ones(1, 3, 8, 8, device=input_device))
    propagate(made)
    assert [tuple(n.meta["val"].shape) for n in made.nodes() if n.name == "add_1"] == [(1, 4, 8, 8)]


def test_random_numbers_are_not_drawn():
    made = by_hand(nn.ModuleDict({"conv": nn.Conv2d(3, 4, 1)}), noisy, torch.ones(1, 3, 8, 8))
    before = torch.get_rng_state()
    propagate(made)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_leaf_that_refuses_everything_is_named():
    class Refuses(nn.Module):
        def forward(self, x):
            raise ValueError("not today\nor tomorrow")

    model = nn.Sequential(nn.Conv2d(3, 4, 1), Refuses())
    message = (
        r"^node _1 \(Refuses\[1\]\) does not run on inputs of shape \(1x4x8x8\): not today;"
        r" check the example inputs against what the model takes$"
    )
    with pytest.raises(InputError, match=message):
        shapes(model, torch.ones(1, 3, 8, 8), opaque=(Refuses,))


def test_an_input_of_the_wrong_width_names_node_and_shapes():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(8, 4, 1))
    match = r"node _1 \(Conv2d\[1\]\) does not run on inputs of shape \(1x4x8x8\): Given groups=1"
    with pytest.raises(InputError, match=match):
        shapes(model, torch.ones(1, 3, 8, 8))


def test_a_missing_input_is_named():
    class Two(nn.Module):
        def forward(self, x, y):
            return x + y

    with pytest.raises(InputError, match="node y does not run on inputs of shape"):
        shapes(Two(), torch.ones(1))


def test_a_default_value_stands_for_a_missing_input():
    class Optional(nn.Module):
        def forward(self, x, scale=2):
            return x * scale

    assert shapes(Optional(), torch.ones(3))["output"] == (3,)


def test_a_shape_that_depends_on_values_is_an_input_error():
    class Mask(nn.Module):
        def forward(self, x):
            return x[x > 0]

    with pytest.raises(InputError, match="node getitem returns what no shape foretells"):
        shapes(Mask(), torch.ones(3))


def test_single_numbers_in_buffers_keep_their_value():
    class Factor(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("factor", torch.tensor(3))

        def forward(self, x):
            return F.interpolate(x, scale_factor=float(2)).repeat(1, self.factor.item(), 1, 1)

    assert shapes(Factor(), torch.ones(1, 2, 4, 4))["output"] == (1, 6, 8, 8)


def test_sizes_and_tuples_are_plain_values():
    class Sizes(nn.Module):
        def forward(self, x):
            n, c, _, _ = x.size()
            return x.view(n, c // 2, -1).chunk(2, 1)

    made = program(Sizes(), torch.ones(1, 4, 2, 2))
    made.module.graph.lint()
    propagate(made)
    values = {n.name: n.meta["val"] for n in made.nodes()}
    assert values["size"] == (1, 4, 2, 2)
    assert values["floordiv"] == 2
    assert [tuple(t.shape) for t in values["chunk"]] == [(1, 1, 8), (1, 1, 8)]


def test_one_value_per_channel_has_a_shape_in_training_mode_too():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)).train()
    assert shapes(model, torch.ones(1, 4))["output"] == (1, 6)


@pytest.mark.parametrize("training", [True, False])
def test_attention_and_recurrent_leaves_run(training):
    class Sequence(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(6, 4, batch_first=True, bidirectional=True)
            self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            x = self.encoder(self.lstm(x)[0])
            return self.attend(x, x, x)[0]

    assert shapes(Sequence().train(training), torch.ones(2, 5, 6))["output"] == (2, 5, 8)


def test_a_tensor_shared_by_two_modules_is_one_fake():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = self.two = nn.Linear(4, 4)

        def forward(self, x):
            return self.two(self.one(x)) + self.one.weight

    assert shapes(Tied(), torch.ones(4, 4))["output"] == (4, 4)


def test_propagating_again_follows_new_inputs():
    made = program(nn.Sequential(nn.Conv2d(3, 4, 1)), torch.ones(1, 3, 4, 4))
    propagate(made)
    made.example_inputs = (torch.ones(2, 3, 6, 6),)
    propagate(made)
    assert [tuple(n.meta["val"].shape) for n in made.nodes() if n.op == "call_module"] == [
        (2, 4, 6, 6)
    ]


def test_a_propagated_program_still_copies():
    made = program(nn.Sequential(nn.Conv2d(3, 4, 1)), torch.ones(1, 3, 4, 4))
    propagate(made)
    again = copy.deepcopy(made.module)
    assert alike(again(torch.ones(1, 3, 4, 4)), made.module(torch.ones(1, 3, 4, 4)))


def test_what_is_remembered_goes_with_the_program():
    made = program(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(), nn.PReLU()), torch.ones(1, 3, 8, 8)
    )
    propagate(made)
    assert shapes_hold(made)
    assert not shapes_hold(made.copy())
    assert len(leaf_results(made.provenance)) == 1
    assert leaf_results(made.copy().provenance) is leaf_results(made.provenance)
    module = weakref.ref(made.module)
    del made
    gc.collect()
    assert module() is None
