"""Taking taps out gives the program that would be there without them; laws of taps and passes."""

from typing import Any

import pytest
import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from torch import nn

import gfx
from gfx.compression.taps import tapped, taps
from gfx.ir.modules import ChannelMask
from gfx.ir.node_origin import origin
from gfx.ir.structure import differences
from gfx.pipeline.registry import passes
from passes.channel_prune import ChannelPrune
from support.laws import law
from support.oracle import alike, assert_equal_outputs
from support.pass_draws import drawn
from support.strategies import specs
from support.tap_checks import members, seen, taps_of

EVERYWHERE = {"distill_taps": {"layers": ["*"]}}
OTHERS = {
    name: kind for name, kind in passes().items() if name not in ("distill_taps", "strip_taps")
}
ACROSS = pytest.mark.parametrize("kind", OTHERS.values(), ids=list(OTHERS))


def applied(model: nn.Module, inputs: tuple, *steps: Any, data: Any = None) -> Any:
    """Runs a recipe; a program that a pass refuses, in words, is no example."""
    try:
        return gfx.apply({"seed": 0, "passes": list(steps)}, model, inputs, data=data, verify=False)
    except gfx.PreconditionError:
        reject()


@law(6, swept=12)
@given(specs(wraps=True, approximate=True))
def test_strip_after_tap_is_the_identity(spec):
    model, inputs = spec.build()
    program = gfx.trace(model, inputs)
    small = applied(model, inputs, EVERYWHERE)
    assert taps_of(small) or not gfx.report(small).passes[0].changes
    after = gfx.trace(applied(small, inputs, "strip_taps"), inputs)
    assert list(differences(program, after)) == []
    assert after.module.code == program.module.code
    assert list(dict(after.module.named_modules())) == list(dict(program.module.named_modules()))


@law(5)
@given(specs(approximate=True))
def test_strip_after_tap_gives_the_same_bytes(tmp_path_factory, spec):
    folder = tmp_path_factory.mktemp("bytes")
    model, inputs = spec.build()
    wanted = members(applied(model, inputs), folder)
    assert members(applied(model, inputs, EVERYWHERE, "strip_taps"), folder) == wanted
    small = applied(model, inputs, EVERYWHERE)
    assert members(applied(small, None, "strip_taps"), folder) == wanted
    gfx.save(small, folder / "small.gfx")
    loaded = gfx.load(folder / "small.gfx")
    assert members(applied(loaded, None, "strip_taps"), folder) == wanted


@ACROSS
@law(3)
@given(specs(wraps=True, approximate=True), st.data())
def test_strip_gives_what_a_pass_in_between_gives_without_taps(kind, spec, data):
    model, inputs = spec.build()
    (step,) = [drawn(data, kind).spec()]
    batches = [inputs, inputs] if kind(**step[kind.name]).needs_data else None
    alone = applied(model, inputs, step, data=batches)
    between = applied(model, inputs, EVERYWHERE, step, "strip_taps", data=batches)
    if gfx.report(alone).passes[0].changes != gfx.report(between).passes[1].changes:
        held = ("fuse_batch_norm", "decompose", "refit", "mask", "fold_masks", "write_in_place")
        assert kind.name in held
        return  # a tap shows what the pass would have done away with
    one, other = (gfx.trace(small, inputs) for small in (alone, between))
    assert list(differences(one, other)) == []


@ACROSS
@law(3)
@given(specs(approximate=True), st.data())
def test_taps_survive_every_pass_and_see_what_the_program_computes(kind, spec, data):
    model, inputs = spec.build()
    pass_ = drawn(data, kind)
    batches = [inputs, inputs] if pass_.needs_data else None
    before = applied(model, inputs, EVERYWHERE)
    after = applied(before, inputs, pass_.spec(), data=batches)
    assert set(taps_of(after)) == set(taps_of(before))
    if not taps_of(after):
        return
    y, wanted = seen(after, inputs)
    with torch.no_grad():
        out, features = tapped(after)(*inputs)
    assert_equal_outputs(y, out)
    assert features.keys() == wanted.keys()
    assert all(alike(features[name], wanted[name]) for name in wanted)
    if gfx.Keeps.VALUES in pass_.keeps and kind.name != "sort_channels":  # in another order
        _, earlier = seen(before, inputs)
        assert_equal_outputs([earlier[name] for name in wanted], list(wanted.values()))


@law(5, swept=8)
@given(specs(), st.sampled_from((0.5, 0.25)))
def test_a_tap_of_a_pruned_program_sees_the_channels_that_are_left(spec, ratio):
    model, inputs = spec.build()
    program = gfx.trace(applied(model, inputs, EVERYWHERE), inputs)
    reference = program.copy()
    pass_ = ChannelPrune(ratio=ratio)
    try:
        pass_ = pass_.apply(program, gfx.Context()).resolved or pass_
    except gfx.PreconditionError:
        reject()
    _, whole = seen(pass_.reference(reference).module, inputs)
    _, left = seen(program.module, inputs)
    for name, node in taps(program.module).items():
        assert_equal_outputs(origin(node).of(whole[name]), left[name])


@law(5, swept=8)
@given(specs(), st.sampled_from(("channel", "filter")), st.booleans())
def test_folding_masks_removes_as_much_with_taps_as_without(spec, granularity, first):
    model, inputs = spec.build()
    steps = [EVERYWHERE, {"mask": {"granularity": granularity}}]
    masked = applied(model, inputs, *(steps if first else steps[::-1]))
    for module in masked.modules():
        if isinstance(module, ChannelMask):
            module.mask[::2] = False
            module.mask[-1] = True
    folded = applied(masked, inputs, "fold_masks")
    assert taps_of(folded) == taps_of(masked)
    assert_equal_outputs(seen(masked, inputs)[0], seen(folded, inputs)[0])
    if gfx.report(folded).passes[0].skips:
        return  # zeros that stay are put where no tap sees them
    alone = applied(masked, inputs, "strip_taps", "fold_masks")
    stripped = applied(folded, inputs, "strip_taps")
    one, other = (gfx.trace(small, inputs) for small in (alone, stripped))
    assert list(differences(one, other)) == []


def test_a_name_that_no_tap_has_is_an_error_that_names_the_taps():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    step = {"distill_taps": {"layers": ["0", "1"]}}
    small = gfx.apply({"passes": [step]}, model, torch.zeros(1, 3, 8, 8))
    with pytest.raises(gfx.PreconditionError, match="no tap is named 'x1'; there are 1"):
        gfx.apply({"passes": [{"strip_taps": {"targets": ["x1"]}}]}, small)


def test_only_the_taps_that_are_named_go():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    step = {"distill_taps": {"layers": ["0", "1"]}}
    small = gfx.apply({"passes": [step]}, model, torch.zeros(1, 3, 8, 8))
    less = gfx.apply({"passes": [{"strip_taps": {"targets": ["0"]}}]}, small)
    assert taps_of(less) == ["1"]
