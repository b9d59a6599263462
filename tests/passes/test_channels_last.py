"""channels_last: the same numbers in another order of memory, and what notices is left alone."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gfx
from gfx.io.archive import open_model
from gfx.ir.execute import distance
from gfx.ir.structure import differences
from support.oracle import alike

RECIPE = {"passes": ["channels_last"]}
LAST = torch.channels_last


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def applied(model: nn.Module, *inputs: Tensor, **fields: Any) -> tuple[nn.Module, Any]:
    """Returns the result, checked against the model, and the pass's part of the report."""
    model = model.double().eval()
    small = gfx.apply({"passes": [{"channels_last": fields}]}, model, inputs)
    outputs = []
    for net in (model, small):
        torch.manual_seed(0)
        outputs.append(net(*inputs))
    assert distance(*outputs) < 1e-12
    return small, gfx.report(small).passes[0]


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 1),
    ]
    layers += [nn.ConvTranspose2d(8, 6, 4, 2, 1), nn.LeakyReLU(), nn.Conv2d(6, 3, 3), nn.Tanh()]
    return nn.Sequential(*layers).double().eval()


def test_weights_and_activations_lie_channels_last_and_outputs_do_not(model: nn.Module) -> None:
    x = drawn(2, 3, 8, 8)
    small, entry = applied(model, x)
    changed = ["0", "4", "6"]  # a 1x1 kernel has one order only
    assert [c.node for c in entry.changes] == [*changed, "contiguous"]
    assert all(small.get_submodule(p).weight.is_contiguous(memory_format=LAST) for p in changed)
    assert small(x).is_contiguous()
    seen = []
    small.get_submodule("5").register_forward_hook(lambda module, args, y: seen.append(y))
    small(x)
    assert seen[0].is_contiguous(memory_format=LAST)
    assert not seen[0].is_contiguous()


def test_the_order_outlives_copies_and_files(model: nn.Module, tmp_path) -> None:
    x = drawn(1, 3, 8, 8)
    small, _ = applied(model, x)
    gfx.save(small, tmp_path / "small.gfx")
    gfx.save(small, tmp_path / "small.pt")
    others = [copy.deepcopy(small), gfx.trace(small, x).module, gfx.load(tmp_path / "small.gfx")]
    others.append(open_model(tmp_path / "small.pt", trust=True))
    for other in others:
        assert other.get_submodule("4").weight.stride() == (96, 1, 24, 6)
        assert alike(small(x), other(x))
    exported = torch.export.export(small, (x,)).module()
    assert distance(small(x), exported(x)) < 1e-12
    again = gfx.apply(RECIPE, small, x)
    assert gfx.report(again).passes[0].changes == ()


def test_training_and_pruning_go_on_as_before(model: nn.Module) -> None:
    x = drawn(2, 3, 8, 8)
    small, _ = applied(model, x)
    for net in (model, small):
        net.train()
        net(x).pow(2).sum().backward()
    for (name, a), (_, b) in zip(model.named_parameters(), small.named_parameters(), strict=True):
        assert distance(a.grad, b.grad) < 1e-10, name
    prune = {"passes": [{"channel_prune": {"ratio": 0.5}}]}
    pruned, wanted = gfx.apply(prune, small.eval(), x), gfx.apply(prune, model.eval(), x)
    assert gfx.cost(pruned, x).macs == gfx.cost(wanted, x).macs
    assert distance(wanted(x), pruned(x)) < 1e-12


def test_another_order_in_memory_is_a_difference(model: nn.Module) -> None:
    program = gfx.trace(model, drawn(1, 3, 8, 8))
    other = program.copy()
    weight = other.module.get_submodule("0").weight
    weight.data = weight.data.contiguous(memory_format=LAST)
    assert next(differences(program, other)) == (
        "0.weight is Parameter 8x3x3x3 torch.float64 on cpu, requires grad, strides 27x1x9x3, "
        "it was Parameter 8x3x3x3 torch.float64 on cpu, requires grad"
    )


class Net(nn.Module):
    """A convolution and one thing that is done with its output."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.group = nn.GroupNorm(2, 4)
        self.instance = nn.InstanceNorm2d(4)
        self.linear = nn.Linear(4 * 36, 5)

    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        if self.how == "view":
            return self.linear(y.view(y.size(0), -1))
        if self.how == "view_as":
            return y.view_as(x[:, :1].expand(-1, 4, -1, -1))
        if self.how == "many":
            return {"both": (y, y.flatten(1)), "input": x}
        if self.how == "group":
            return self.group(y)
        if self.how == "instance":
            return self.instance(y)
        if self.how == "instance_norm":
            return F.instance_norm(y)
        if self.how == "randn_like":
            return y + torch.randn_like(y)
        if self.how == "as_strided":
            return y.as_strided((2, 2), (2, 1))
        if self.how == "write":
            z = y.view(y.size(0), -1)
            z.add_(1)
            return y * z.view(y.shape)
        return y


@pytest.mark.parametrize("how", ["view", "view_as", "many"])
def test_views_become_reshapes_and_every_output_is_contiguous(how: str) -> None:
    x = drawn(2, 3, 6, 6)
    small, entry = applied(Net(how), x)
    assert next(c.node for c in entry.changes) == "conv"
    assert not any(node.target in ("view", "view_as") for node in small.graph.nodes)
    assert all(t.is_contiguous() for t in torch.utils._pytree.tree_leaves(small(x)))


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("group", "group: the group_norm for channels-last input takes variances as E[x²]"),
        ("instance", "instance would copy what it normalises; run fast_instance_norm before"),
        ("instance_norm", "instance_norm would copy what it normalises; write it as an nn."),
        ("randn_like", "randn_like draws random numbers in the order of memory"),
        ("as_strided", "as_strided asks how its input lies in memory"),
        ("write", "add_ writes into a view, which would be a copy"),
    ],
)
def test_a_program_that_would_notice_is_left_alone(how: str, why: str) -> None:
    _, entry = applied(Net(how), drawn(2, 3, 6, 6))
    assert entry.changes == ()
    assert [skip.node for skip in entry.skips] == ["conv"]
    assert entry.skips[0].why.startswith(why)


def test_after_fast_instance_norm_nothing_is_in_the_way() -> None:
    x = drawn(2, 3, 6, 6)
    model = Net("instance").double().eval()
    small = gfx.apply({"passes": ["fast_instance_norm", "channels_last"]}, model, x)
    assert [bool(entry.changes) for entry in gfx.report(small).passes] == [True, True]
    assert distance(model(x), small(x)) < 1e-12


def test_targets_choose_and_computed_weights_are_skipped() -> None:
    model = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)))
    nn.utils.parametrizations.spectral_norm(model[1])
    _, entry = applied(model, drawn(1, 3, 6, 6), targets=("1", "2"))
    assert {skip.node: skip.why for skip in entry.skips} == {
        "0": "not in targets 1, 2",
        "1": "its weight is computed before it runs; run fold_parametrizations before",
    }


def test_tied_weights_stay_tied_and_a_layer_called_twice_is_stored_once() -> None:
    model = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(2)))
    model[1].weight = model[0].weight
    model.append(model[0])
    small, entry = applied(model, drawn(1, 3, 6, 6))
    assert small.get_submodule("0").weight is small.get_submodule("1").weight
    assert len([c for c in entry.changes if c.what == "weight"]) == 1
