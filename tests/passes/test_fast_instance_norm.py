"""fast_instance_norm: the same norm by another kernel, whatever comes in and whatever follows."""

import copy

import pytest
import torch
from torch import Tensor, fx, nn

import gfx
from gfx.io.archive import open_model
from gfx.ir.execute import distance
from gfx.ir.modules import FAST
from passes.fast_instance_norm import FastInstanceNorm

RECIPE = {"passes": ["fast_instance_norm"]}
SHAPES = {nn.InstanceNorm1d: (9,), nn.InstanceNorm2d: (5, 4), nn.InstanceNorm3d: (3, 2, 4)}


def pair(kind: type[nn.Module], channels: int, affine: bool) -> tuple[nn.Module, nn.Module]:
    """Makes a norm of torch's and its fast twin, of the same scales and shifts."""
    torch.manual_seed(0)
    plain = kind(channels, affine=affine, eps=1e-3).double()
    for parameter in plain.parameters():
        nn.init.normal_(parameter)
    fast = copy.deepcopy(plain)
    fast.__class__ = FAST[kind]
    return plain, fast


def drawn(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("channels", [1, 5, 8, 66])
@pytest.mark.parametrize("kind", SHAPES)
def test_the_fast_norm_computes_what_torchs_does(
    kind: type[nn.Module], channels: int, batch: int, affine: bool
) -> None:
    plain, fast = pair(kind, channels, affine)
    x = drawn(batch, channels, *SHAPES[kind]) + 3
    assert distance(plain(x), fast(x)) < 1e-12
    assert distance(plain(x[0]), fast(x[0])) < 1e-12  # without a batch


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("channels", [1, 5, 8, 66])
def test_channels_last_gives_the_same_and_its_gradients_too(channels: int, batch: int) -> None:
    plain, fast = pair(nn.InstanceNorm2d, channels, True)
    x = (drawn(batch, channels, 6, 5) + 3).contiguous(memory_format=torch.channels_last)
    results = []
    for norm in (plain, fast):
        leaf = x.clone().requires_grad_()
        y = norm(leaf)
        (y**3).sum().backward()
        results.append([y, leaf.grad, norm.weight.grad, norm.bias.grad])
    for wanted, got in zip(*results, strict=True):
        assert distance(wanted, got) < 1e-11
    with torch.no_grad():
        assert distance(plain(x), fast(x)) < 1e-12


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("channels", [5, 8, 64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_mean_far_from_zero_costs_no_digits(
    layout: torch.memory_format, channels: int, batch: int
) -> None:
    _, fast = pair(nn.InstanceNorm2d, channels, False)
    x = (drawn(batch, channels, 16, 16) + 100).float().contiguous(memory_format=layout)
    wanted = nn.InstanceNorm2d(channels, eps=1e-3).double()(x.double())
    assert distance(wanted, fast(x).double()) < 1e-4


def test_errors_are_torchs_own() -> None:
    for norm in pair(nn.InstanceNorm2d, 3, True):
        with pytest.raises(ValueError, match="Expected more than 1 spatial element"):
            norm(drawn(2, 3, 1, 1))
        with pytest.raises(ValueError, match="expected 3D or 4D input"):
            norm(drawn(2, 3))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3)]
    layers += [nn.InstanceNorm2d(8, affine=True), nn.Conv2d(8, 3, 1)]
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize("training", [False, True])
def test_the_result_is_fast_and_equal_in_either_mode(model: nn.Module, training: bool) -> None:
    model.train(training)
    x = drawn(2, 3, 9, 9)
    small = gfx.apply(RECIPE, model, x)
    assert [type(m).__name__ for m in small.children()][1::3] == ["FastInstanceNorm2d"] * 2
    assert list(small.state_dict()) == list(model.state_dict())
    assert distance(model(x), small(x)) < 1e-12
    (entry,) = gfx.report(small).passes
    assert [c.node for c in entry.changes] == ["1", "4"]
    assert entry.changes[0].after == "FastInstanceNorm2d"
    assert gfx.cost(small, x).macs == gfx.cost(model, x).macs


def test_the_result_can_be_copied_saved_pruned_traced_and_exported(
    model: nn.Module, tmp_path
) -> None:
    x = drawn(1, 3, 9, 9)
    small = gfx.apply(RECIPE, model.eval(), x)
    gfx.save(small, tmp_path / "small.gfx")
    gfx.save(small, tmp_path / "small.pt")
    again = gfx.apply(RECIPE, small, x)
    assert gfx.report(again).passes[0].changes == ()
    exported = torch.export.export(small, (x,)).module()
    others = [copy.deepcopy(small), again, exported, fx.symbolic_trace(small)]
    others += [gfx.load(tmp_path / "small.gfx"), open_model(tmp_path / "small.pt", trust=True)]
    for other in others:
        assert distance(small(x), other(x)) < 1e-12
    prune = {"passes": [{"channel_prune": {"ratio": 0.5}}]}
    pruned, wanted = gfx.apply(prune, small, x), gfx.apply(prune, model, x)
    assert gfx.cost(pruned, x).macs == gfx.cost(wanted, x).macs
    assert distance(wanted(x), pruned(x)) < 1e-12


def test_a_captured_graph_has_torchs_own_instance_norm(model: nn.Module) -> None:
    x = drawn(1, 3, 9, 9)
    small = gfx.apply(RECIPE, model.eval(), x)
    targets = {str(n.target) for n in torch.export.export(small, (x,)).graph.nodes}
    assert "aten.instance_norm.default" in targets
    assert not any("group_norm" in target for target in targets)


class Own(nn.InstanceNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


@pytest.mark.parametrize(
    ("norm", "targets", "why"),
    [
        (nn.InstanceNorm2d(8), ("9",), "not in targets 9"),
        (
            nn.InstanceNorm2d(8, track_running_stats=True),
            ("*",),
            "it uses running statistics (track_running_stats=True)",
        ),
        (Own(8), ("*",), "Own is a class of its own: what it computes is not known"),
    ],
)
def test_what_is_not_replaced_is_skipped_with_the_reason(norm, targets, why) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), norm).eval()
    graph = fx.Graph()
    node = graph.call_module("1", (graph.call_module("0", (graph.placeholder("x"),)),))
    graph.output(node)
    program = gfx.Program(fx.GraphModule(model, graph), (torch.zeros(1, 3, 8, 8),))
    outcome = FastInstanceNorm(targets=targets).apply(program, gfx.Context())
    assert not outcome.modified
    assert [skip.why for skip in outcome.skips] == [why]


def test_a_norm_with_a_hook_is_skipped(model: nn.Module) -> None:
    program = gfx.trace(model.eval(), drawn(1, 3, 9, 9))
    program.module.get_submodule("1").register_forward_hook(lambda module, args, result: None)
    outcome = FastInstanceNorm().apply(program, gfx.Context())
    assert [c.node for c in outcome.changes] == ["4"]
    assert outcome.skips[0].why.startswith("it has a hook or parametrization")


def test_a_norm_that_is_called_twice_is_replaced_once() -> None:
    norm = nn.InstanceNorm2d(3, affine=True)
    model = nn.Sequential(norm, nn.Conv2d(3, 3, 1), norm).double()
    x = drawn(1, 3, 6, 6)
    small = gfx.apply(RECIPE, model, x)
    assert len(gfx.report(small).passes[0].changes) == 1
    assert distance(model(x), small(x)) < 1e-12
