"""What runs without gradients does so in the graph; contexts that a graph cannot keep are named."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import gfx
from support.oracle import alike

X = torch.randn(2, 3, 12, 12)


class Encoded(nn.Module):
    """An encoder in some context, and a decoder that learns."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.decoder = nn.Conv2d(8, 3, 3, padding=1)

    def encode(self, x):
        raise NotImplementedError

    def forward(self, x):
        return torch.tanh(self.decoder(self.encode(x)))


class NoGrad(Encoded):
    def encode(self, x):
        with torch.no_grad():
            return self.encoder(x)


class Decorated(Encoded):
    @torch.no_grad()
    def encode(self, x):
        return self.encoder(x)


class SetFalse(Encoded):
    def encode(self, x):
        with torch.set_grad_enabled(False):
            return self.encoder(x)


class Halves(Encoded):
    """Several values leave the region together."""

    def encode(self, x):
        with torch.no_grad():
            one, two = self.encoder(x).chunk(2, 1)
        return torch.cat([two, one], 1)


class Inside(Encoded):
    """What is read within the region is read outside too."""

    def encode(self, x):
        with torch.no_grad():
            y = self.encoder(x)
            z = y * 2 + y.mean((2, 3), keepdim=True)
        return y + z * x.mean(1, keepdim=True)


class Detached(Encoded):
    def encode(self, x):
        return self.encoder(x).detach()


class Data(Encoded):
    def encode(self, x):
        return self.encoder(x).data


class Checkpointed(Encoded):
    def encode(self, x):
        return checkpoint(self.encoder, x, use_reentrant=False)


class ByShape(Encoded):
    """A forward that only torch.export takes."""

    def encode(self, x):
        with torch.no_grad():
            y = self.encoder(x)
        return torch.stack(list(y)) if y.dim() == 4 else y


KEPT = [NoGrad, Decorated, SetFalse, Halves, Inside, Detached, Data, Checkpointed, ByShape]


def gradients(module, training):
    module.train(training)
    x = X.clone().requires_grad_()
    module(x).square().sum().backward()
    found = {name: p.grad for name, p in module.named_parameters()}
    module.zero_grad()
    return {**found, "x": x.grad}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@pytest.mark.parametrize("kind", KEPT, ids=lambda kind: kind.__name__)
def test_what_learns_in_the_model_learns_in_the_program_and_nothing_else(kind, training):
    model = kind().train(training)
    program = gfx.trace(model, X)
    assert alike(program.module.eval()(X), model.eval()(X))
    expected, got = gradients(model, training), gradients(program.module, training)
    assert expected.keys() == got.keys()
    for name, gradient in expected.items():
        if gradient is None:
            assert got[name] is None or not got[name].any(), name
        else:
            assert torch.allclose(got[name], gradient, rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("kind", [NoGrad, Halves, Inside], ids=lambda kind: kind.__name__)
def test_a_frozen_part_is_pruned_and_stays_frozen(kind, tmp_path):
    small = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, kind().eval(), X)
    gfx.save(small, tmp_path / "small.gfx")
    for net in (small, gfx.load(tmp_path / "small.gfx")):
        got = gradients(net, False)
        assert not any(got[f"encoder.{name}"] is not None for name in ("0.weight", "1.weight"))
        assert got["decoder.weight"].any()


class Autocast(Encoded):
    def encode(self, x):
        with torch.autocast("cpu", enabled=False):
            return self.encoder(x.float())


class AutocastDecorated(Encoded):
    @torch.autocast("cpu", dtype=torch.bfloat16)
    def encode(self, x):
        return self.encoder(x).float()


class EnableGrad(Encoded):
    def encode(self, x):
        with torch.enable_grad():
            return self.encoder(x)


class SetTrue(Encoded):
    def encode(self, x):
        with torch.set_grad_enabled(True):
            return self.encoder(x)


class InPlace(Encoded):
    def encode(self, x):
        y = self.encoder(x)
        with torch.no_grad():
            y.mul_(2)
        return y


REFUSED = [
    (Autocast, "torch.autocast"),
    (AutocastDecorated, "torch.autocast"),
    (EnableGrad, "torch.enable_grad"),
    (SetTrue, "torch.set_grad_enabled"),
    (InPlace, "torch.no_grad"),
]


@pytest.mark.parametrize(("kind", "name"), REFUSED, ids=lambda x: getattr(x, "__name__", ""))
def test_a_context_that_a_graph_cannot_keep_is_named(kind, name):
    with pytest.raises(gfx.TraceError, match=f"forward (enters|writes).*{name}"):
        gfx.trace(kind().eval(), X)


@pytest.mark.parametrize("kind", [Autocast, EnableGrad], ids=lambda kind: kind.__name__)
def test_a_module_that_enters_such_a_context_stays_whole_inside_a_larger_one(kind):
    torch.manual_seed(0)
    model = nn.Sequential(kind(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3)).eval()
    program = gfx.trace(model, X)
    ((path, reason),) = program.provenance.opaque
    assert path == "0"
    assert "torch." in reason
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert alike(program.module(X).float(), model(X).float())


class Straight(torch.autograd.Function):
    """Rounds, and lets gradients through as if it did not."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Rounding(Encoded):
    def encode(self, x):
        return Straight.apply(self.encoder(x))


def test_gradients_of_its_own_are_refused_where_the_graph_would_lose_them():
    with pytest.raises(gfx.TraceError, match=r"the gradient of \S+ differs by"):
        gfx.trace(Rounding().eval(), X)


WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "compiled": lambda net: torch.compile(net, backend="eager"),
    "twice": lambda net: nn.DataParallel(torch.compile(net, backend="eager")),
    "AveragedModel": torch.optim.swa_utils.AveragedModel,
    "inside": lambda net: nn.Sequential(nn.DataParallel(net)),
}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_what_is_unwrapped_keeps_its_own_modes(wrap, training):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.ReLU(), nn.Conv2d(8, 3, 3)
    )
    net.train(training)[1].eval()  # a frozen norm
    wrapped = wrap(net)
    for module in (gfx.trace(wrapped, X).module, gfx.apply({"passes": []}, wrapped, X)):
        flags = {type(m): m.training for m in module.modules() if not list(m.children())}
        assert flags == {type(m): m.training for m in net}
        torch.manual_seed(1)
        one = module(X)
        torch.manual_seed(1)
        assert alike(one, wrapped(X))
