"""Nothing that torch.nn or a tensor can do makes gfx fail, or give wrong numbers."""

from dataclasses import replace

import pytest
import torch

import gfx
from gfx.coupling.channel_names import modules_of
from passes.channel_prune import ChannelPrune
from support.laws import long_changes, staying
from support.module_sweeps import FUNCTIONS, LAYERS, NOT_LAYERS, built
from support.oracle import assert_equal_outputs, zeroed
from support.sweeps import some

# NaN does not run through them: constants that stand in a channel go with it, a comparison with
# NaN is false; or one operation both reads and writes
BEYOND_THE_ORACLE = {"ConstantPad1d", "ConstantPad2d", "ConstantPad3d", "expand_as", "where_scalar"}
BEYOND_THE_ORACLE |= {"heaviside", "normalize", "normalize_one", "baddbmm"}
BEYOND_THE_ORACLE |= {"addmm", "mv", "dot", "l1_loss", "Bilinear", "bilinear"}
BEYOND_THE_ORACLE |= {"CosineSimilarity", "cosine_similarity", "cdist_pixels", "nansum"}
BEYOND_THE_ORACLE |= {"MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d"}  # NaN stands elsewhere


def judge(name):
    model, x = built(name)
    program = gfx.trace(model, x)
    original = program.copy().module
    assert_equal_outputs(model(x), original(x))
    groups = list(gfx.channels(program))
    assert not [g.pinned for g in groups if "cannot follow" in str(g.pinned)]
    assert program.provenance.opaque == ()
    assert not long_changes(program)
    if not any(g.free for g in groups):
        with pytest.raises(gfx.PreconditionError):
            ChannelPrune(ratio=0.5, min_channels=1).apply(program, gfx.Context())
        return
    prune = ChannelPrune(ratio=0.5, min_channels=1, importance="random", seed=3)
    reference = prune.reference(program)
    prune.apply(whole := program.copy(), gfx.Context())
    assert_equal_outputs(reference.module(x), whole.module(x))
    exact = tuple(n for g in groups if g.free and g.exact for n in modules_of(g))
    if not exact or name in BEYOND_THE_ORACLE:
        return
    outcome = replace(prune, targets=exact).apply(program, gfx.Context())
    kept = staying(outcome)
    assert_equal_outputs(zeroed(original, [x], kept), program.module(x))


def test_every_layer_of_torch_is_in_the_table():
    known = {n for n in torch.nn.modules.__all__ if not n.startswith("Lazy")}
    assert known - NOT_LAYERS - set(LAYERS) == set()


@pytest.mark.parametrize("name", some(LAYERS))
def test_a_layer_between_two_others_is_pruned_or_pinned_with_a_reason(name):
    judge(name)


@pytest.mark.parametrize("name", some(FUNCTIONS, 1))
def test_a_function_between_two_layers_is_pruned_or_pinned_with_a_reason(name):
    judge(name)
