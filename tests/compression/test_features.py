"""What a tapped model returns: its output, and the features as they were at the taps."""

import copy
import pickle

import pytest
import torch
from torch import nn

import gfx
from gfx.ir.modules import Tap
from support.oracle import alike
from support.tap_checks import seen, tap, taps_of


def net(act=nn.ReLU):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), act(), nn.Conv2d(4, 4, 3), act(), nn.Conv2d(4, 3, 1)
    return nn.Sequential(*layers).double()


def image(size=9):
    torch.manual_seed(1)
    return torch.randn(2, 3, size, size, dtype=torch.float64)


@pytest.mark.parametrize("training", [True, False])
def test_tapped_returns_output_and_features_with_the_models_own_parameters(training):
    model, x = net(), image()
    small = tap(model, x, layers=["1", "2"]).train(training)
    both = gfx.tapped(small)
    y, features = both(x)
    assert both.training == training
    assert alike(y, small(x))
    assert list(features) == ["1", "2"]
    assert alike(features["1"], model[:2](x))
    own = dict(small.named_parameters())
    assert {name: id(p) for name, p in both.named_parameters()} == {
        n: id(p) for n, p in own.items()
    }
    features["2"].square().sum().backward()
    assert small.get_parameter("0.weight").grad.abs().sum() > 0
    assert small.get_parameter("4.weight").grad is None


class WritesOver(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu, self.out = nn.ReLU(inplace=True), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        h = self.a(x)
        part = h.view(-1, 2, 2, *x.shape[2:])
        part *= 2
        h = self.relu(h)
        y = self.b(h)
        y += h
        return self.out(y)


def test_a_feature_is_what_it_was_though_a_later_step_writes_over_it():
    torch.manual_seed(0)
    model, x = WritesOver().double(), image()
    small = tap(model, x, layers=["a", "b"])
    y, features = gfx.tapped(small)(x)
    a = model.a(x)
    assert alike(y, model(x))
    assert alike(features["a"], a)
    assert alike(features["b"], model.b((2 * a).relu()))
    (features["a"].square().sum() + features["b"].square().sum() + y.sum()).backward()
    _, wanted = seen(small, (x,))
    assert all(alike(features[name], wanted[name]) for name in wanted)


def test_nothing_is_copied_where_nothing_is_written_over():
    codes = [
        gfx.tapped(tap(net(act), image(), layers=["0"])).code for act in (nn.ReLU, InplaceReLU)
    ]
    assert ["clone" in code for code in codes] == [False, True]


class InplaceReLU(nn.ReLU):
    def __init__(self):
        super().__init__(inplace=True)


def test_a_model_without_taps_is_an_error_that_says_what_to_do():
    with pytest.raises(gfx.InputError, match="Sequential has no taps; apply the pass distill_taps"):
        gfx.tapped(net())
    with pytest.raises(gfx.InputError, match="has no taps"):
        gfx.tapped(gfx.trace(net(), image()).module)
    whole = nn.Sequential(tap(net(), image(), layers=["1"]), nn.Tanh())
    with pytest.raises(gfx.InputError, match=r"its part 0 is and has taps; call gfx.tapped on"):
        gfx.tapped(whole)


def test_a_part_with_taps_may_be_traced_again():
    model, x = net(), image()
    parts = nn.Sequential(*(tap(model, x, layers=["1"]) for _ in range(2)))
    small = gfx.trace(parts, image(21)).module
    features = gfx.tapped(small)(image(21))[1]
    assert list(features) == ["0_1", "1_1"]
    assert alike(features["0_1"], model[:2](image(21)))


def test_compiled_models_are_tapped_and_tapped_models_compiled():
    small, x = tap(net(), image(), layers=["1"]), image()
    wanted = gfx.tapped(small)(x)[1]["1"]
    for model in (
        gfx.tapped(torch.compile(small, backend="eager")),
        torch.compile(gfx.tapped(small), backend="eager", fullgraph=True),
    ):
        assert alike(model(x)[1]["1"], wanted)


def test_a_tapped_module_copies_and_pickles():
    small, x = tap(net(), image(), layers=["1"]), image()
    both = gfx.tapped(small)
    for twin in (copy.deepcopy(both), pickle.loads(pickle.dumps(both))):
        assert alike(twin(x)[1]["1"], both(x)[1]["1"])
        assert next(twin.parameters()) is not next(small.parameters())


def test_a_tapped_module_is_not_tapped_again():
    both = gfx.tapped(tap(net(), image(), layers=["1"]))
    for module in (both, copy.deepcopy(both)):
        assert gfx.tapped(module) is module


def test_a_tapped_module_is_exported_and_fits_adapters():
    small, x = tap(net(), image(), layers=["1"]), image()
    both = gfx.tapped(small)
    exported = torch.export.export(both, (x,)).module()
    assert alike(exported(x)[1]["1"], both(x)[1]["1"])
    assert list(gfx.adapters(both, small).layers) == ["1"]


def test_taps_are_saved_and_loaded(tmp_path):
    small, x = tap(net(), image(), layers=["1"]), image()
    gfx.save(small, tmp_path / "small.gfx")
    loaded = gfx.load(tmp_path / "small.gfx")
    assert taps_of(loaded) == ["1"]
    assert alike(gfx.tapped(loaded)(x)[1]["1"], gfx.tapped(small)(x)[1]["1"])


def test_a_tap_is_a_visible_module():
    small = tap(net(), image(), layers=["1"])
    assert [path for path, m in small.named_modules() if isinstance(m, Tap)] == ["taps.1"]
    assert "taps" in small.code


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def test_gradients_of_features_are_exchanged_by_the_wrapper_that_the_model_had(one_process):
    small, x, exchanged = tap(net(), image(), layers=["1"]), image(), []

    def hook(_, bucket):
        exchanged.append(bucket.buffer().numel())
        done = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    wrapped = nn.parallel.DistributedDataParallel(small)
    wrapped.register_comm_hook(None, hook)
    both = gfx.tapped(wrapped)
    for _ in range(2):
        y, features = both(x)
        (y.sum() + features["1"].square().sum()).backward()
    wrapped(x).sum().backward()
    assert exchanged == [sum(p.numel() for p in small.parameters())] * 3
    assert alike(features["1"], gfx.tapped(small)(x)[1]["1"])
