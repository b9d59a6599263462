"""A value that a run keeps and the forward reads again is an edge of the graph, or refused."""

import collections
import functools
import types

import pytest
import torch
from torch import nn

import gfx
from support.oracle import alike

X = torch.randn(1, 3, 12, 12)
SHARED = {}
CACHE = []


def keep_globally(module, args, result):
    SHARED["skip"] = result


class Net(nn.Module):
    """Reads in its head what its stem gave; subclasses say how that gets there."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.body = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 3, 3, padding=1)
        self.prepare()

    def prepare(self):
        pass

    def kept(self):
        raise NotImplementedError

    def forward(self, x):
        x = torch.relu(self.body(torch.relu(self.stem(x))))
        return self.head(x + self.kept())


class OwnStore(Net):
    def prepare(self):
        self.store = store = {}
        self.stem.register_forward_hook(lambda m, i, o: store.update(skip=o))

    def kept(self):
        return self.store["skip"]


class ClosedOver(Net):
    def prepare(self):
        store = {}
        self.stem.register_forward_hook(lambda m, i, o: store.update(skip=o))
        self.read = lambda: store["skip"]

    def kept(self):
        return self.read()


class Attribute(Net):
    def prepare(self):
        self.stem.register_forward_hook(lambda m, i, o: setattr(self, "skip", o))

    def kept(self):
        return self.skip


class Method(Net):
    def prepare(self):
        self.stem.register_forward_hook(self.keep)

    def keep(self, module, args, result):
        self.skip = result

    def kept(self):
        return self.skip


class Default(Net):
    def prepare(self):
        self.stem.register_forward_hook(lambda m, i, o, net=self: setattr(net, "skip", o))

    def kept(self):
        return self.skip


class Partial(Net):
    def prepare(self):
        self.store = types.SimpleNamespace()
        self.stem.register_forward_hook(functools.partial(self.into, self.store))

    @staticmethod
    def into(store, module, args, result):
        store.skip = result

    def kept(self):
        return self.store.skip


class Globally(Net):
    def prepare(self):
        self.stem.register_forward_hook(keep_globally)

    def kept(self):
        return SHARED["skip"]


class Stack(Net):
    def prepare(self):
        self.stack = collections.deque(maxlen=2)
        self.stem.register_forward_hook(lambda m, i, o: self.stack.append(o))

    def kept(self):
        return self.stack.pop()


class OnContainer(Net):
    def prepare(self):
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh())
        self.store = store = []
        self.stem.register_forward_hook(lambda m, i, o: store.insert(0, o))

    def kept(self):
        return self.store[0]


class WithKeywords(Net):
    def prepare(self):
        self.store = store = {}
        self.stem.register_forward_hook(
            lambda m, i, k, o: store.update(skip=o), with_kwargs=True, always_call=True
        )

    def kept(self):
        return self.store["skip"]


class Replacing(Net):
    def prepare(self):
        self.stem.register_forward_hook(lambda m, i, o: o * 2)

    def kept(self):
        return 0.0


def into_cache(value):
    CACHE.append(value)


class Cached(Net):
    def kept(self):
        return CACHE[-1]

    def forward(self, x):
        into_cache(self.stem(x))
        return super().forward(x)


class SetForward(Net):
    def prepare(self):
        def forward(x):
            y = self.stem(x)
            return self.head(torch.relu(self.body(y)) + y)

        self.forward = forward


FOLLOWED = [OwnStore, ClosedOver, Attribute, Method, Default, Partial, Globally, Stack]
FOLLOWED += [OnContainer, WithKeywords, Replacing, SetForward, Cached]


@pytest.fixture(params=FOLLOWED, ids=lambda kind: kind.__name__)
def model(request):
    SHARED.clear()
    CACHE.clear()
    return request.param().eval()


def runs_alike(module, model):
    """Whether they agree on other images, of other sizes, and in their gradients."""
    for size in (12, 20):
        x, y = (t.requires_grad_() for t in torch.randn(2, 2, 3, size, size).unbind())
        x, y = x.detach().requires_grad_(), x.detach().requires_grad_()
        assert alike(module(x), model(y))
        one = torch.autograd.grad(module(x).square().sum(), [x, *module.parameters()])
        two = torch.autograd.grad(model(y).square().sum(), [y, *model.parameters()])
        assert all(
            torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(one, two, strict=True)
        )


def test_what_a_hook_keeps_is_an_edge_of_the_graph(model):
    program = gfx.trace(model, X)
    assert program.provenance.frontend == "symbolic"
    runs_alike(program.module, model)


def test_what_a_hook_keeps_is_pruned_as_any_skip(model):
    small = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, model, X)
    assert small.get_submodule("head").in_channels == 4
    assert gfx.report(small).verified


def test_the_model_and_its_hooks_stay_as_they_were(model):
    before = {path: dict(vars(part)) for path, part in model.named_modules()}
    hooks = {path: list(part._forward_hooks.values()) for path, part in model.named_modules()}
    SHARED["other"] = 1
    gfx.trace(model, X)
    assert SHARED.pop("other") == 1
    assert (SHARED, CACHE) == ({}, [])
    for path, part in model.named_modules():
        assert vars(part).keys() == before[path].keys()
        assert list(part._forward_hooks.values()) == hooks[path]
    if hasattr(model, "store"):
        assert not vars(model)["store"] or not len(vars(model.store))
    model(X)  # it still runs


def test_a_hook_that_only_looks_is_taken_off_the_result_and_the_report_says_so():
    seen = []

    def look(module, args, result):
        seen.append(result)

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 3, 3))
    model.eval()[0].register_forward_hook(look)
    small = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, model, X)
    said = "look of 0 is in the graph: the result does not call it"
    assert [note for note in gfx.report(small).notes if note.endswith(said)]
    assert said in " ".join(str(gfx.report(small)).split())
    assert list(model[0]._forward_hooks.values()) == [look]
    assert not any(part._forward_hooks for part in small.modules())
    assert seen == []
    small(X)
    assert seen == []  # the result looks no more
    model(X)
    assert [value.shape[1] for value in seen] == [8]  # the model still does


class Number(Net):
    """A hook makes a number of one run, which no graph holds."""

    def prepare(self):
        self.scale = 1.0
        self.stem.register_forward_hook(lambda m, i, o: setattr(self, "scale", float(o.mean())))

    def kept(self):
        return self.scale


class OutsideObject(Net):
    """A hook that needs a real tensor keeps it where only the forward looks."""

    def prepare(self):
        store = {}
        self.stem.register_forward_hook(
            lambda m, i, o: store.update(skip=torch.from_numpy(o.detach().numpy().copy()))
        )
        self.read = lambda: store["skip"]

    def kept(self):
        return self.read()


@pytest.mark.parametrize("kind", [Number, OutsideObject], ids=lambda kind: kind.__name__)
def test_what_cannot_be_followed_is_refused_by_name(kind):
    with pytest.raises(gfx.TraceError, match=r"the (forward )?hook \S*<lambda> of stem"):
        gfx.trace(kind().eval(), X)
