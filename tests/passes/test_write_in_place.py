"""write_in_place: what is overwritten, what is left alone, and that nothing can be told by it."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor, nn
from torch.nn import functional as F

import gfx
from gfx.ir.execute import distance
from support.laws import law
from support.oracle import alike
from support.strategies import specs

RECIPE = {"passes": ["write_in_place"]}


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Net(nn.Module):
    """A convolution, and one thing that is done with its output."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.LeakyReLU(-0.1) if how == "negative" else nn.ReLU()
        self.two = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Any:
        y = self.norm(self.conv(x))
        return {
            "layer": lambda: self.two(self.act(y)),
            "function": lambda: self.two(F.relu(y)),
            "method": lambda: self.two(y.relu()),
            "leaky": lambda: self.two(F.leaky_relu(y, 0.3)),
            "block": lambda: self.act(y) + self.two(self.act(y)),
            "residual": lambda: x[:, :1] + self.norm(self.two(y)),
            "narrow": lambda: self.conv(x)[:, :1] + x,
            "left": lambda: self.two(y) + x[:, :1],
            "twice": lambda: self.two(y) + y,
            "self": lambda: (lambda z: z + z)(self.two(y)),
            "output": lambda: (y, self.act(y)),
            "input": lambda: self.two(y) * self.act(x).sum(),
            "saved": lambda: self.act(torch.tanh(y)),
            "view": lambda: self.act(y[:, :2]),
            "negative": lambda: self.act(y),
            "leaky_negative": lambda: F.leaky_relu(y, -0.3),
        }[self.how]()


def applied(how: str, **fields: Any) -> tuple[nn.Module, nn.Module, Any]:
    """Returns model, result and the pass's part of the report; outputs are alike."""
    torch.manual_seed(0)
    model, x = Net(how).double().eval(), drawn(2, 3, 6, 6)
    small = gfx.apply({"passes": [{"write_in_place": fields}]}, model, x)
    before = x.clone()
    for a, b in zip(*(torch.utils._pytree.tree_leaves(m(x)) for m in (model, small)), strict=True):
        assert alike(a, b)
    assert torch.equal(before, x)
    return model, small, gfx.report(small).passes[0]


@pytest.mark.parametrize(
    ("how", "changed"),
    [
        ("layer", ["act"]),
        ("function", ["relu"]),
        ("method", ["relu"]),
        ("leaky", ["leaky_relu"]),
        ("residual", ["add"]),
        ("left", ["add"]),
        ("twice", ["add"]),
    ],
)
def test_what_nobody_else_reads_is_overwritten(how: str, changed: list[str]) -> None:
    _, _, entry = applied(how)
    assert [change.node for change in entry.changes] == changed


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("block", "norm is read by 2 nodes"),
        ("narrow", "none of its terms is fresh memory of its shape that nobody else reads"),
        ("self", "none of its terms is fresh memory of its shape that nobody else reads"),
        ("output", "norm is read by 2 nodes"),
        ("input", "x is read by 2 nodes"),
        ("saved", "tanh may not be overwritten: its memory may be another's, or be asked for ag"),
        ("view", "getitem may not be overwritten: its memory may be another's, or be asked for"),
        ("leaky_negative", "its slope is negative: the result does not tell the sign"),
    ],
)
def test_what_somebody_needs_is_left_alone(how: str, why: str) -> None:
    _, _, entry = applied(how)
    assert not [c for c in entry.changes if c.node != "add"]
    assert entry.skips[0].why.startswith(why)


def test_a_negative_slope_and_other_targets_are_left_alone() -> None:
    assert applied("negative")[2].changes == ()
    entry = applied("layer", targets=("no",))[2]
    assert (entry.changes, entry.skips[0].why) == ((), "not in targets no")


@law(10)
@given(specs())
def test_gradients_are_the_same_bits_in_either_mode(spec) -> None:
    model, inputs = spec.build()
    small = gfx.apply(RECIPE, model, inputs, verify=False)
    for training in (False, True):
        found = []
        for net in (copy.deepcopy(model), copy.deepcopy(small)):
            torch.manual_seed(0)
            leaves = torch.utils._pytree.tree_leaves(net.train(training)(*inputs))
            sum(leaf.square().sum() for leaf in leaves).backward()
            found.append({n: p.grad for n, p in net.named_parameters()})
        model_s, small_s = found
        for name, grad in small_s.items():
            wanted = model_s.get(name)
            if grad is not None and wanted is not None and float(wanted.abs().max()) > 1e-6:
                assert distance(wanted, grad) < 1e-9, name


def test_it_outlives_files_and_pruning_and_changes_no_cost(tmp_path) -> None:
    model, small, _ = applied("layer")
    x = drawn(2, 3, 6, 6)
    gfx.save(small, tmp_path / "small.gfx")
    exported = torch.export.export(small, (x,)).module()
    for other in (copy.deepcopy(small), gfx.load(tmp_path / "small.gfx"), exported):
        assert distance(small(x), other(x)) < 1e-12
    assert gfx.cost(small, x).macs == gfx.cost(model, x).macs
    prune = {"passes": [{"channel_prune": {"ratio": 0.5, "min_channels": 1}}]}
    pruned, wanted = gfx.apply(prune, small, x), gfx.apply(prune, model, x)
    assert distance(wanted(x), pruned(x)) < 1e-12
    again = gfx.apply(RECIPE, small, x)
    assert gfx.report(again).passes[0].changes == ()
