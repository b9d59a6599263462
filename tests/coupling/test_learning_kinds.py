"""Every statistic of weights goes on learning where weights are removed, or is told as frozen.

The reference is the original whose removed weights are held constant.
"""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gfx
from gfx.coupling import analyse
from gfx.coupling.removal import remove
from gfx.coupling.removal.masked_reference import masked as zeroed
from support.laws import through
from support.oracle import alike
from support.price_checks import check

X = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
ALL = (1, 2, 3)


def by_mean_and_std(w):
    return (w - w.mean(dim=[1, 2, 3], keepdim=True)) / (w.std(dim=[1, 2, 3], keepdim=True) + 1e-5)


def by_means_of_means(w):
    w = w - w.mean(1, keepdim=True).mean(2, keepdim=True).mean(3, keepdim=True)
    return w / (w.reshape(w.size(0), -1).std(dim=1).view(-1, 1, 1, 1) + 1e-5)


def by_var_mean(w):
    var, mean = torch.var_mean(w, dim=ALL, keepdim=True, unbiased=False)
    return (w - mean) * torch.rsqrt(var + 1e-5)


def by_std_mean(w):
    std, mean = torch.std_mean(w, dim=ALL, keepdim=True)
    return (w - mean) / (std + 1e-5)


def by_squares(w):
    away = w - w.mean(ALL, keepdim=True)
    return away / ((away**2).mean(ALL, keepdim=True) + 1e-5).sqrt()


def by_flat_variance(w):
    return w / (w.flatten(1).var(1, correction=0) + 1e-5).sqrt().view(-1, 1, 1, 1)


def by_batch_norm(w):
    flat = w.reshape(1, w.shape[0], -1)
    return F.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6).reshape_as(w)


def by_batch_norm_in_numbers(w):
    out = len(w)
    flat = w.view(1, out, -1)
    return F.batch_norm(flat, None, None, None, None, True, 0.1, 1e-6).view(w.shape)


def by_std_in_numbers(w):
    out = len(w)
    return w / w.view(out, -1).std(dim=1).reshape(out, 1, 1, 1)


def by_norm_of_centred(w):
    w = w - w.mean(dim=ALL, keepdim=True)
    return w / torch.linalg.vector_norm(w, dim=ALL, keepdim=True)


def by_norm_of_centred_rows(w):
    w = w - w.mean(dim=ALL, keepdim=True)
    return w / w.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


LEARN = {
    "norm of centred": by_norm_of_centred,
    "norm of centred rows": by_norm_of_centred_rows,
    "std of a view": by_std_in_numbers,
    "batch_norm": by_batch_norm,
    "batch_norm of a view": by_batch_norm_in_numbers,
    "instance_norm": lambda w: F.instance_norm(w.reshape(1, len(w), -1)).view_as(w),
    "instance_norm of kernels": lambda w: F.instance_norm(w),
    "group_norm": lambda w: F.group_norm(w, 1),
    "layer_norm": lambda w: F.layer_norm(w, w.shape[1:]),
    "layer_norm, flat": lambda w: F.layer_norm(w.flatten(1), (w[0].numel(),)).view_as(w),
    "normalize": lambda w: F.normalize(w, dim=1),
    "normalize rows": lambda w: F.normalize(w.flatten(1)).view_as(w),
    "normalize all": lambda w: F.normalize(w, dim=(1, 2, 3)),
    "normalize by sizes": lambda w: F.normalize(w.reshape(w.size(0), -1), p=1.0, dim=1).view_as(w),
    "normalize by the largest": lambda w: F.normalize(w, p=float("inf"), dim=0),
    "softmax": lambda w: w.softmax(1),
    "softmax rows": lambda w: w.flatten(1).softmax(dim=-1).view_as(w),
    "log_softmax": lambda w: F.log_softmax(w, 1),
    "mean and std": by_mean_and_std,
    "means of means": by_means_of_means,
    "var_mean": by_var_mean,
    "std_mean": by_std_mean,
    "squares": by_squares,
    "flat variance": by_flat_variance,
    "norm": lambda w: w / w.flatten(1).norm(dim=1)[:, None, None, None],
    "norm 1": lambda w: w / torch.linalg.vector_norm(w, 1, dim=ALL, keepdim=True),
    "norm 3": lambda w: w / torch.linalg.vector_norm(w, 3, dim=ALL, keepdim=True),
    "norm inf": lambda w: w / torch.linalg.vector_norm(w, float("inf"), dim=ALL, keepdim=True),
    "norm of all": lambda w: w / w.norm(),
    "linalg.norm": lambda w: w / torch.linalg.norm(w.flatten(1), dim=1)[:, None, None, None],
    "matrix_norm": lambda w: w / torch.linalg.matrix_norm(w.flatten(1)),
    "logsumexp": lambda w: w - torch.logsumexp(w, ALL, keepdim=True),
    "amax": lambda w: w / w.abs().amax(ALL, keepdim=True),
    "amin": lambda w: w - w.amin(dim=1, keepdim=True),
    "max": lambda w: w - w.max(1, keepdim=True)[0],
    "mean of squares": lambda w: w * torch.rsqrt(w.pow(2).mean(ALL, keepdim=True) + 1e-6),
    "sum of products": lambda w: w / torch.sqrt((w * w).sum(ALL, keepdim=True) + 1e-8),
    "sum of softplus": lambda w: w / F.softplus(w).sum(ALL, keepdim=True),
    "normalize what is clamped": lambda w: F.normalize(w.clamp(-0.05, 0.05).flatten(1)).view_as(w),
    "norm that is detached": lambda w: w / w.detach().norm(),
    "mean of all": lambda w: w - w.mean(),
    "std of all": lambda w: w / w.std(),
}
LARGEST = ("norm inf", "amax", "amin", "max", "normalize by the largest")  # of one gradient each
FROZEN = {
    "median": lambda w: w - w.median(),
    "softmin": lambda w: F.softmin(w, 1),
    "dot": lambda w: w / torch.dot(w.flatten(), w.flatten()),
}


class Net(nn.Module):
    """A convolution whose weight is computed; `stay` masks channels and holds their weights."""

    def __init__(self, weight_of):
        super().__init__()
        torch.manual_seed(0)
        self.weight_of, self.stay = weight_of, None
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(6, 3, 1)
        self.mid = nn.Conv2d(8, 6, 3, padding=1)

    def forward(self, x):
        w, z = self.mid.weight, torch.tanh(self.first(x))
        if self.stay is not None:
            into, out, fixed = self.stay
            both = into.view(1, -1, 1, 1) * out.view(-1, 1, 1, 1)
            w, z = w * both + fixed * (1 - both), z * into.view(1, -1, 1, 1)
        y = torch.tanh(F.conv2d(z, self.weight_of(w), self.mid.bias, padding=1))
        return self.last(y if self.stay is None else y * out.view(1, -1, 1, 1))


def masked(net, kept):
    found = copy.deepcopy(net)
    into, out = (torch.zeros(n, dtype=torch.float64) for n in (8, 6))
    into[kept["first"]], out[kept["mid"]] = 1, 1
    found.stay = into, out, net.mid.weight.detach().clone()
    return found


def trained(net, optimizer=torch.optim.SGD, lr=0.05):
    net = copy.deepcopy(net)
    optimizer = optimizer(net.parameters(), lr=lr)
    for _ in range(3):
        optimizer.zero_grad()
        net(X).square().mean().backward()
        optimizer.step()
    return net


def pruned(net):
    ratios = {"first": 0.25, "mid": 0.2}
    recipe = {"passes": [{"channel_prune": {"ratios": ratios, "min_channels": 1}}]}
    return gfx.apply(recipe, net, X)


def kept_by(net):
    return gfx.report(net).passes[0].details["kept"]


@pytest.mark.parametrize("kind", LEARN)
def test_a_statistic_of_weights_goes_on_learning(kind, tmp_path):
    model = Net(LEARN[kind]).double().eval()
    small = pruned(model)
    kept = kept_by(small)
    whole = masked(model, kept)
    assert "frozen" not in str(gfx.report(small))
    assert alike(small(X), whole(X))
    assert alike(trained(small, lr=0.01)(X), trained(whole, lr=0.01)(X))
    small, whole = trained(small), trained(whole)
    assert alike(small(X), whole(X))

    again = pruned(small)
    left = {name: [kept[name][i] for i in rows] for name, rows in kept_by(again).items()}
    twice = masked(whole, {"first": left["first"], "mid": left["mid"]})
    assert "frozen" not in str(gfx.report(again))
    gfx.save(again, tmp_path / "again.gfx")
    loaded = gfx.load(tmp_path / "again.gfx")
    for found in (again, loaded):
        assert alike(found(X), twice(X))
        assert alike(trained(found)(X), trained(twice)(X))
    adam = torch.optim.SGD if kind in LARGEST else torch.optim.Adam
    assert alike(trained(again, adam, 1e-3)(X), trained(twice, adam, 1e-3)(X))


class Scaled(Net):
    """A weight whose standardisation has gains, or scales and shifts, which lose channels too."""

    def __init__(self, weight_of, shape):
        super().__init__(weight_of)
        self.scale, self.shift = (nn.Parameter(torch.randn(shape)) for _ in range(2))

    def forward(self, x):
        z = torch.tanh(self.first(x))
        y = F.conv2d(z, self.weight_of(self, self.mid.weight), self.mid.bias, padding=1)
        return self.last(torch.tanh(y))


def by_gains(net, w):
    gain = (net.scale * 0.3).view(-1)
    flat = w.reshape(1, 6, -1)
    return F.batch_norm(flat, None, None, weight=gain, training=True, momentum=0.0).reshape_as(w)


def by_scales_and_shifts(net, w):
    flat = w.reshape(1, len(w), -1)
    return F.batch_norm(flat, None, None, net.scale, net.shift, True, eps=1e-3).view_as(w)


SCALED = {
    "gains": (by_gains, (6, 1, 1, 1)),
    "batch_norm": (by_scales_and_shifts, (6,)),
    "torch.batch_norm": (
        lambda net, w: torch.batch_norm(
            w.reshape(1, 6, -1), net.scale, net.shift, None, None, True, 0.1, 1e-3, False
        ).view_as(w),
        (6,),
    ),
    "torch.instance_norm": (
        lambda net, w: torch.instance_norm(
            w, net.scale, net.shift, None, None, True, 0.1, 1e-3, False
        ),
        (8,),
    ),
    "group_norm": (lambda net, w: F.group_norm(w, 1, net.scale, net.shift), (8,)),
    "instance_norm": (
        lambda net, w: F.instance_norm(w, weight=net.scale, bias=net.shift, eps=0.1),
        (8,),
    ),
    "layer_norm": (lambda net, w: F.layer_norm(w, (8, 3, 3), net.scale, net.shift), (8, 3, 3)),
}


@pytest.mark.parametrize("kind", LEARN)
def test_an_exported_graph_has_the_same_statistics(kind):
    program = through("export", Net(LEARN[kind]).double().eval(), (X,))
    groups = analyse(program)
    assert {g.name: g.size for g in groups.free} == {"first": 8, "mid": 6}
    removed = groups.none_removed()
    for group in groups.free:
        removed[group.roots[1:3]] = True
    reference = program.copy()
    zeroed(reference, analyse(reference), removed)
    assert remove(program, groups, removed) == ()
    assert alike(program.module(X), reference.module(X))


@pytest.mark.parametrize("kind", SCALED)
def test_scales_and_shifts_of_a_normalised_weight_lose_what_it_loses(kind, tmp_path):
    model = Scaled(*SCALED[kind]).double().eval()
    small = pruned(model)
    kept = kept_by(small)
    assert {name: len(stay) for name, stay in kept.items()} == {"first": 6, "mid": 5}
    assert "frozen" not in str(gfx.report(small))
    path = tmp_path / "small.gfx"
    gfx.save(small, path)
    again = kept_by(pruned(small))
    assert {name: len(stay) for name, stay in again.items()} == {"first": 5, "mid": 4}
    whole, rows = copy.deepcopy(model), {name: torch.tensor(stay) for name, stay in kept.items()}
    plain = {name: p.detach().clone() for name, p in whole.named_parameters()}
    gone = {"first": 8, "mid": 6}
    gone = {n: [i for i in range(size) if i not in kept[n]] for n, size in gone.items()}

    def hold(net):
        """Zeroes the readers of what is removed, and keeps its weights what they were."""
        with torch.no_grad():
            net.mid.weight[gone["mid"]] = plain["mid.weight"][gone["mid"]]
            net.mid.weight[:, gone["first"]] = plain["mid.weight"][:, gone["first"]]
            net.last.weight[:, gone["mid"]] = 0

    hold(whole)
    stay = torch.zeros(8, dtype=torch.float64).index_fill(0, rows["first"], 1)
    whole.first.register_forward_hook(lambda _, x, y: y * stay.view(1, -1, 1, 1))
    for loaded in (small, gfx.load(path)):
        assert alike(loaded(X), whole(X))
    ends = []
    for net, after in ((copy.deepcopy(small), lambda net: None), (whole, hold)):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        for _ in range(3):
            optimizer.zero_grad()
            net(X).square().mean().backward()
            optimizer.step()
            after(net)
        ends.append(net(X))
    assert alike(*ends)


@pytest.mark.parametrize("kind", ["normalize", "normalize rows", "normalize by sizes"])
def test_rows_of_zeros_have_gradients_after_a_removal(kind):
    model = Net(LEARN[kind]).double().eval()
    with torch.no_grad():
        model.mid.weight[:3] = 0
    small = pruned(model)
    small(X).square().mean().backward()
    assert "frozen" not in str(gfx.report(small))
    assert all(p.grad.isfinite().all() for p in small.parameters())


@pytest.mark.parametrize("kind", LEARN)
def test_what_a_pruned_program_costs_is_what_was_foretold(kind):
    check(gfx.trace(Net(LEARN[kind]).eval(), X.float()), 3, peak=False)


@pytest.mark.parametrize("kind", [*LEARN, *FROZEN])
def test_a_program_that_loses_nothing_keeps_its_graph(kind):
    program = gfx.trace(Net({**LEARN, **FROZEN}[kind]).eval(), X.float())
    before, macs = str(program.graph), gfx.cost(program).macs
    groups = gfx.channels(program)
    assert remove(program, groups, groups.none_removed()) == ()
    assert str(program.graph) == before
    assert gfx.cost(program).macs == macs


@pytest.mark.parametrize("kind", FROZEN)
def test_a_statistic_that_cannot_learn_is_told_as_frozen(kind):
    model = Net(FROZEN[kind]).double().eval()
    small = pruned(model)
    assert alike(small(X), masked(model, kept_by(small))(X))
    assert "frozen" in str(gfx.report(small))
