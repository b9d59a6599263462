"""What a report says stays is enough to repeat the removal, byte for byte."""

import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch import nn

import gfx
from gfx.contract import Outcome
from passes.channel_prune import ChannelPrune
from support.patterns import PATTERNS
from support.programs import traced_pattern
from support.strategies import specs
from support.sweeps import some


def same_bytes(a: gfx.Program, b: gfx.Program) -> bool:
    left, right = a.module.state_dict(), b.module.state_dict()
    return a.text() == b.text() and all(torch.equal(left[key], right[key]) for key in right)


def repeated(program: gfx.Program, **fields) -> bool:
    """Prunes, then prunes the original by what the first report says stays."""
    first, second = program.copy(), program.copy()
    outcome = ChannelPrune(importance="random", seed=3, min_channels=1, **fields).apply(
        first, gfx.Context()
    )
    kept = {name: tuple(stay) for name, stay in outcome.details["kept"].items()}
    again = ChannelPrune(kept=kept, attention=fields.get("attention", "width"))
    told = again.apply(second, gfx.Context()).details["kept"]
    third = program.copy()
    outcome.resolved.apply(third, gfx.Context())
    return (
        told == outcome.details["kept"] and same_bytes(first, second) and same_bytes(first, third)
    )


@pytest.mark.parametrize("attention", ["width", "heads"])
@pytest.mark.parametrize("name", some(PATTERNS))
def test_the_kept_channels_alone_repeat_the_removal(name, attention):
    try:
        assert repeated(traced_pattern(name), ratio=0.5, attention=attention)
    except gfx.PreconditionError as error:
        pytest.skip(str(error)[:80])  # nothing is free


@settings(max_examples=30, deadline=None, derandomize=True)
@given(specs(), st.sampled_from((0.5, 0.25)), st.sampled_from(("width", "heads")))
def test_a_removal_is_repeated_on_any_generator(spec, ratio, attention):
    program = gfx.trace(*spec.build())
    try:
        assert repeated(program, ratio=ratio, attention=attention)
    except gfx.PreconditionError:
        reject()


class Constant(nn.Module):
    """Channels that no layer writes: a learned constant, a gain, and zeros made on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(1, 8, 4, 4))
        self.gain = nn.Parameter(torch.randn(8, 1, 1))
        self.to_rgb = nn.Conv2d(8, 3, 1)
        self.mix = nn.Conv2d(6, 3, 1)

    def forward(self, z):
        zeros = torch.zeros(z.shape[0], 6, 4, 4, dtype=z.dtype)
        return self.to_rgb(self.start * self.gain) + self.mix(zeros) + z


def test_channels_that_no_module_writes_are_told_where_they_are_read():
    torch.manual_seed(0)
    program = gfx.trace(Constant(), (torch.randn(2, 3, 4, 4),))
    outcome = ChannelPrune(ratio=0.5, min_channels=1).apply(program.copy(), gfx.Context())
    assert set(outcome.details["kept"]) == {"to_rgb.in", "mix.in"}
    assert {c.node: (c.before, c.after) for c in outcome.changes} == {
        "to_rgb.in": (8, 4),
        "mix.in": (6, 3),
    }
    assert repeated(program, ratio=0.5)
    small = program.copy()
    # any tensor of the group names it
    ChannelPrune(kept={"start": (0, 5)}).apply(small, gfx.Context())
    assert small.module.start.shape == (1, 2, 4, 4)


def test_the_reference_is_that_of_what_was_chosen():
    asked = []

    class Once(ChannelPrune):
        def reference(self, before):
            asked.append(self)
            return super().reference(before)

    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 1))
    gfx.apply(gfx.Recipe(passes=(Once(ratio=0.5),)), model, torch.zeros(1, 3, 8, 8))
    (resolved,) = asked
    assert resolved.ratio is None
    assert len(resolved.kept["0"]) == 4


def test_a_pass_without_choices_needs_no_resolved_one():
    assert Outcome().resolved is None
