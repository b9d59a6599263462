"""Shape propagation: what runs, what it leaves alone, what it says when something does not run."""

import copy
import operator

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm

from gfx import zoo
from gfx.errors import InputError
from gfx.program import Program
from gfx.shapes import propagate
from strategies import generators


class Keep(fx.Tracer):
    """Traces with the given kinds of modules as leaves."""

    def __init__(self, *kinds):
        super().__init__()
        self.kinds = kinds

    def is_leaf_module(self, m, module_qualified_name):
        return isinstance(m, self.kinds) or super().is_leaf_module(m, module_qualified_name)


def program(model, *inputs, opaque=()):
    graph = Keep(*opaque).trace(model)
    return Program(fx.GraphModule(model, graph), inputs)


def shapes(model, *inputs, opaque=()):
    made = program(model, *inputs, opaque=opaque)
    propagate(made)
    return {
        node.name: tuple(node.meta["val"].shape)
        for node in made.nodes()
        if isinstance(node.meta["val"], torch.Tensor)
    }


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


def test_weight_norm_as_parametrization_runs():
    model = nn.Sequential(parametrizations.weight_norm(nn.ConvTranspose2d(4, 8, 4, 2, 1)))
    assert shapes(model, torch.ones(1, 4, 5, 5))["output"] == (1, 8, 10, 10)


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


def by_hand(model, write, *inputs):
    """Makes a program whose graph `write(graph, x)` draws; tracing would run some of it."""
    graph = fx.Graph()
    graph.output(write(graph, graph.placeholder("x")))
    return Program(fx.GraphModule(model, graph), inputs)


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


def test_a_leaf_on_the_meta_device_that_refuses_fake_tensors_is_named():
    model = nn.Sequential(Numpy()).to("meta")
    with pytest.raises(InputError, match=r"node _0 \(Numpy\[0\]\) does not run on .* \(1x3x4x4\)"):
        shapes(model, torch.ones(1, 3, 4, 4), opaque=(Numpy,))


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

    with pytest.raises(InputError, match=r"node getitem does not run on inputs of shape \(3, 3\)"):
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
    assert torch.equal(again(torch.ones(1, 3, 4, 4)), made.module(torch.ones(1, 3, 4, 4)))
