from functools import cache

import pytest
import torch
from torch import nn

import gfx
from gfx.coupling import analyse
from passes.channel_prune import ChannelPrune
from support.laws import long_changes, prune_as_told, staying
from support.oracle import assert_equal_outputs, zeroed
from support.patterns import PATTERNS
from support.sweeps import some


def built(name: str, batch: int | None = None) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Builds a pattern in float64 with norms that are not at their initial values."""
    kind, shapes = PATTERNS[name]
    torch.manual_seed(0)
    model = kind().double().eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    inputs = tuple(torch.randn(batch or s[0], *s[1:], dtype=torch.float64) for s in shapes)
    return model, inputs


@cache
def traced_once(name: str) -> gfx.Program:
    """Traces a pattern once for all tests; they take copies."""
    return gfx.trace(*built(name))


def traced(name: str) -> gfx.Program:
    return traced_once(name).copy()


# the oracle takes what one operation reads and writes for the same thing
BEYOND_THE_ORACLE = ("Normalised",)


@pytest.mark.parametrize("name", some(PATTERNS))
def test_a_prune_equals_its_own_reference(name):
    program = traced(name)
    prune_as_told(program, *program.example_inputs, ratio=0.5, importance="random", seed=5)


@pytest.mark.parametrize("name", [n for n in PATTERNS if n not in BEYOND_THE_ORACLE])
def test_removing_channels_equals_zeroing_what_reads_them(name):
    model, inputs = built(name)
    program = traced(name)
    original = program.copy().module
    assert_equal_outputs(model(*inputs), original(*inputs))
    outcome = ChannelPrune(ratio=0.5, min_channels=1, importance="random", seed=3).apply(
        program, gfx.Context()
    )
    kept = staying(outcome)
    assert outcome.details["achieved"]["removed"] > 0
    for batch in (inputs[0].shape[0], 3):
        _, inputs = built(name, batch)
        assert_equal_outputs(zeroed(original, inputs, kept), program.module(*inputs))


HEADS = (
    "MultiHead",
    "MultiHeadSDPA",
    "CrossAttention",
    "RelativePositionBias",
    "AttentionMask",
    "MultiHeadModule",
)


@pytest.mark.parametrize("name", HEADS)
def test_whole_heads_can_go(name):
    program = traced(name)
    inputs, original = program.example_inputs, program.copy().module
    heads = {g.name for g in analyse(program, attention="heads") if g.size == 2}  # of which are two
    widths = [m.out_features for m in original.modules() if isinstance(m, nn.Linear)]
    pass_ = ChannelPrune(ratio=0.5, min_channels=1, attention="heads", importance="random", seed=3)
    outcome = pass_.apply(program, gfx.Context())
    assert heads.intersection(row["group"] for row in outcome.details["groups"])
    assert [m.out_features for m in program.module.modules() if isinstance(m, nn.Linear)] != widths
    kept = staying(outcome)
    assert_equal_outputs(zeroed(original, inputs, kept), program.module(*inputs))


@pytest.mark.parametrize("name", some(PATTERNS, 1))
def test_the_groups_of_a_pattern_do_not_depend_on_the_image_size(name):
    program = traced(name)
    sizes = [(group.name, group.size, group.free) for group in gfx.channels(program)]
    again = [(group.name, group.size, group.free) for group in gfx.channels(program.copy())]
    assert sizes == again


@pytest.mark.parametrize("name", some(PATTERNS))
def test_no_rule_gives_up_on_a_pattern(name):
    reasons = [str(group.pinned) for group in gfx.channels(traced(name))]
    assert not [why for why in reasons if "cannot follow" in why]


@pytest.mark.parametrize("name", some(PATTERNS, 1))
def test_the_groups_of_a_pattern_do_not_depend_on_what_is_called_long(name):
    assert not long_changes(traced(name))


def test_a_removal_tells_which_statistics_of_weights_it_stored():
    model, inputs = built("SpectralByHand")
    program = gfx.trace(model, inputs)
    outcome = ChannelPrune(ratio=0.5, min_channels=1).apply(program, gfx.Context())
    assert outcome.details["stored"] == ["dot"]
    assert "dot_0" in dict(program.module.named_buffers())
    model, inputs = built("CosineWeights")
    program = gfx.trace(model, inputs)
    outcome = ChannelPrune(ratio=0.5, min_channels=1).apply(program, gfx.Context())
    assert "stored" not in outcome.details  # both go on learning
