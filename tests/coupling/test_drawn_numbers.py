"""Numbers that are drawn for each channel: a narrower net draws fewer, and every check knows it."""

import pytest
import torch
from torch import nn

import gfx
from gfx.ir.drawn_numbers import drawing_as, draws
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
