"""Numbers that are drawn for each channel: a narrower net draws fewer, and every check knows it."""

import pytest
import torch
from torch import nn

import gfx
from gfx.contract import Keeps, Outcome, Pass
from gfx.ir.drawn_numbers import drawing_as, draws
from gfx.ir.node_origin import narrow
from gfx.ir.shapes.propagate import propagate
from support.drawing_forwards import DRAWING, Drawing, Undrawn
from support.oracle import assert_equal_outputs, zeroed

HALF = {"passes": [{"channel_prune": {"ratio": 0.5, "min_channels": 1, "round_to": 1}}]}


def generator(what: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(len(what))
    return Drawing(what).double().eval(), torch.rand(2, 3, 6, 6, dtype=torch.float64)


@pytest.mark.parametrize("what", DRAWING)
def test_channels_go_where_numbers_are_drawn_for_them(what):
    model, x = generator(what)
    small = gfx.apply(HALF, model, x)
    assert small.first.out_channels == small.middle.out_channels == 4
    assert all(check.passed for p in gfx.report(small).passes for check in p.checks)
    tensors = {name: tuple(small.get_submodule(name).weight.shape) for name in ("first", "last")}
    assert tensors == {"first": (4, 3, 3, 3), "last": (3, 4, 3, 3)}
    # the independent oracle, where every draw is the same number
    kept = gfx.report(small).passes[0].details["tensors"]
    kept = {path: {int(d): list(i) for d, i in dims.items()} for path, dims in kept.items()}
    with Undrawn():
        expected, got = zeroed(gfx.trace(model, x).module, (x,), kept), small(x)
    assert_equal_outputs(expected, got)


@pytest.mark.parametrize("what", DRAWING)
def test_masks_fold_where_numbers_are_drawn(what):
    model, x = generator(what)
    masked = gfx.apply({"passes": ["mask"]}, model, x)
    masks = [m for m in masked.modules() if hasattr(m, "mask")]
    for number, each in enumerate(masks):
        each.mask.data[number % 2 :: 2] = 0
    folded = gfx.apply({"passes": ["fold_masks"]}, masked, x)
    assert masks
    assert folded.first.out_channels < 8


@pytest.mark.parametrize("what", DRAWING)
def test_sorted_and_elastic_where_numbers_are_drawn(what):
    model, x = generator(what)
    assert gfx.apply({"passes": ["sort_channels"]}, model, x)(x).shape == x.shape
    net = gfx.supernet(model, x)
    for widths in (net.smallest(), net.sample(0, 3), net.largest()):
        net.set(widths)
        torch.manual_seed(3)
        got = net(x)
        torch.manual_seed(3)
        assert_equal_outputs(net.extract(widths).eval()(x), got)


def test_a_program_that_draws_as_many_numbers_is_left_alone():
    model, x = generator("dropout")
    program = gfx.trace(model, x)
    assert sum(map(draws, program.nodes())) == 1
    assert drawing_as(program, program) is program


class Mixed(nn.Module):
    """Reads channels that are nothing but drawn numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(8, 3, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.randn(1, 8, 4, 4, dtype=x.dtype) + 0 * x.mean())


class Wrong(Pass):
    """Draws fewer numbers than are read, and says that values stay."""

    name = "wrong"
    keeps = Keeps.VALUES

    def apply(self, program: gfx.Program, context: gfx.Context) -> Outcome:
        outcome = Outcome()
        drawn = next(node for node in program.nodes() if draws(node))
        drawn.args = (1, 4, 4, 4)
        narrow(drawn, {1: range(4)})
        layer = program.module.get_submodule("last")
        layer.weight = nn.Parameter(layer.weight.detach()[:, :4].clone())
        layer.in_channels = 4
        program.recompile()
        propagate(program)
        outcome.change("last", "in_channels", 8, 4)
        return outcome


def test_numbers_that_were_read_and_are_no_longer_drawn_are_found_out():
    with pytest.raises(gfx.VerificationError, match="wrong: values: output 0"):
        gfx.apply({"passes": [Wrong()]}, Mixed().double(), torch.zeros(1, 3, 4, 4).double())
