"""gfx's own layers in every part of the house: traced, analysed, edited, saved, priced."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import gfx
from gfx.modules import ChannelMask, LearnedMask, is_own
from gfx.program import Program
from gfx.structure import differences
from laws import judge, law, partition, through
from masked import all_masked, masks_of, tapped, with_masks, zeroed_masks
from oracle import assert_equal_outputs, flat
from strategies import specs

KINDS = st.sampled_from((ChannelMask, LearnedMask))


def own(members) -> frozenset:
    """Leaves out the masks."""
    return frozenset(m for m in members if not m[0].startswith("masks.") and m[0][-5:] != ".mask")


def channels(program: Program) -> dict[frozenset, bool]:
    found = partition(gfx.channels(program))
    return {own(members): free for members, free in found.items() if own(members)}


@law(15)
@given(specs(approximate=True), KINDS)
def test_masks_taps_and_penalties_change_neither_values_nor_groups(spec, kind):
    model, inputs = spec.build()
    before = gfx.trace(model, inputs)
    after = tapped(with_masks(before, kind))
    assert torch.equal(flat(before.module(*inputs)), flat(after.module(*inputs)))
    assert channels(after) == channels(before)


@law(15)
@given(specs(), KINDS, st.integers(0, 3), st.sampled_from((0.5, 0.25)))
def test_what_is_pruned_of_a_masked_program_is_what_nothing_reads(spec, kind, seed, ratio):
    before = zeroed_masks(with_masks(gfx.trace(*spec.build()), kind), seed)
    judge(spec, before, ratio=ratio, seed=seed)


@law(10)
@given(specs(), st.integers(0, 3), st.sampled_from((0.5, 0.25)))
def test_all_kinds_of_masks_and_marks_follow_a_removal(spec, seed, ratio):
    before = zeroed_masks(all_masked(gfx.trace(*spec.build()), seed), seed)
    judge(spec, before, ratio=ratio, seed=seed)


@law(10)
@given(specs(), st.integers(0, 3))
def test_what_is_saved_and_loaded_is_the_same_program(tmp_path_factory, spec, seed):
    model, inputs = spec.build()
    before = zeroed_masks(all_masked(gfx.trace(model, inputs), seed), seed)
    path = tmp_path_factory.mktemp("saved") / "masked.gfx"
    gfx.save(before, path)
    loaded = gfx.trace(gfx.load(path), inputs)
    assert loaded.module.code == before.module.code
    assert list(differences(before, loaded)) == []
    assert torch.equal(flat(before.module(*inputs)), flat(loaded.module(*inputs)))
    assert channels(loaded) == channels(before)


@law(10)
@given(specs(), st.integers(0, 3), st.sampled_from(("symbolic",)))
def test_a_masked_graph_inside_a_model_is_traced_again(spec, seed, frontend):
    model, inputs = spec.build()
    before = zeroed_masks(all_masked(gfx.trace(model, inputs), seed), seed)
    outer = Outer(before.module)
    after = through(frontend, outer, inputs)
    assert sorted(masks_of(after)) == [f"part.{path}" for path in sorted(masks_of(before))]
    assert kinds(after) == kinds(before)
    assert_equal_outputs(outer(*inputs), after.module(*inputs))


class Outer(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, *inputs):
        return self.part(*inputs)


def kinds(program: Program) -> list[str]:
    called = [program.submodule(n) for n in program.nodes() if n.op == "call_module"]
    return sorted(type(m).__name__ for m in called if is_own(m))
