"""gfx's own layers in every part of gfx: traced, analysed, edited, saved, priced."""

import numpy as np
import torch
from hypothesis import example, given, reject
from hypothesis import strategies as st
from torch import fx, nn

import gfx
from gfx.compression.importance import rank
from gfx.costs import cost_of
from gfx.errors import PreconditionError
from gfx.ir.modules import (
    ChannelMask,
    LearnedMask,
    MaskedLayer,
    SizeRules,
    Tap,
    is_own,
    plain_layer,
)
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import forget_shapes, propagate
from gfx.ir.stages import stages
from gfx.ir.structure import differences, faults
from support import blocks
from support.blocks import Source, Spec
from support.laws import judge, law, partition, through
from support.masked_programs import (
    all_masked,
    masked_weights,
    masks_of,
    tapped,
    with_masks,
    zeroed_masks,
)
from support.oracle import alike, assert_equal_outputs, flat
from support.price_checks import check as check_prices
from support.probe_checks import check as check_probing
from support.strategies import specs

X = torch.zeros(1, 3, 8, 8)
KINDS = st.sampled_from((ChannelMask, LearnedMask))


def own(members) -> frozenset:
    """Leaves out the masks."""
    return frozenset(m for m in members if not m[0].startswith("masks.") and m[0][-5:] != ".mask")


def channels(program: Program) -> tuple[set[frozenset], frozenset]:
    """Lists the channels that may go, and the positions that stay, however these are joined."""
    found = partition(gfx.channels(program))
    free = {own(members) for members, free in found.items() if free and own(members)}
    return free, own(frozenset().union(*(m for m, free in found.items() if not free)))


WINDOWS = Spec(Source("constant", out=2), (blocks.WindowAttention(),), outputs="dict", seed=4)


@law(4, swept=8)
@example(WINDOWS, LearnedMask)  # rows of a constant that roll moves are joined in another way
@given(specs(approximate=True), KINDS)
def test_masks_taps_and_penalties_change_neither_values_nor_groups(spec, kind):
    model, inputs = spec.build()
    before = gfx.trace(model, inputs)
    after = tapped(with_masks(before, kind))
    assert alike(flat(before.module(*inputs)), flat(after.module(*inputs)))
    assert channels(after) == channels(before)


@law(4, swept=8)
@given(specs(), KINDS, st.integers(0, 3), st.sampled_from((0.5, 0.25)))
def test_what_is_pruned_of_a_masked_program_is_what_nothing_reads(spec, kind, seed, ratio):
    before = zeroed_masks(with_masks(gfx.trace(*spec.build()), kind), seed)
    judge(spec, before, ratio=ratio, seed=seed)


@law(4, swept=6)
@given(specs(), st.integers(0, 3), st.sampled_from((0.5, 0.25)))
def test_all_kinds_of_masks_and_marks_follow_a_removal(spec, seed, ratio):
    before = zeroed_masks(all_masked(gfx.trace(*spec.build()), seed), seed)
    judge(spec, before, ratio=ratio, seed=seed)


@law(4, swept=6)
@given(specs(), st.integers(0, 3))
def test_what_is_saved_and_loaded_is_the_same_program(tmp_path_factory, spec, seed):
    model, inputs = spec.build()
    before = zeroed_masks(all_masked(gfx.trace(model, inputs), seed), seed)
    path = tmp_path_factory.mktemp("saved") / "masked.gfx"
    gfx.save(before, path)
    loaded = gfx.trace(gfx.load(path), inputs)
    assert loaded.module.code == before.module.code
    assert list(differences(before, loaded)) == []
    assert alike(flat(before.module(*inputs)), flat(loaded.module(*inputs)))
    assert channels(loaded) == channels(before)


@law(4, swept=6)
@given(specs(), st.integers(0, 3), st.sampled_from(("symbolic", "export")))
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
    # what is traced by another front end may hold for other sizes
    own = [m for m in called if is_own(m) and not isinstance(m, SizeRules)]
    return sorted(type(m).__name__ for m in own)


def written_out(program: Program) -> Program:
    """Copies a program and writes the masked weights out."""
    twin = program.copy()
    plain = {id(m): plain_layer(m) for m in twin.module.modules() if isinstance(m, MaskedLayer)}
    for path, module in list(twin.module.named_modules(remove_duplicate=False)):
        if id(module) in plain:
            owner, _, name = path.rpartition(".")
            setattr(twin.module.get_submodule(owner), name, plain[id(module)])
    return twin


@law(4, swept=6)
@given(specs(), st.sampled_from(("l1", "l2", "fpgm", "lamp", "taylor", "fisher")))
def test_masked_weights_count_as_zeros_in_every_importance(spec, importance):
    masked = masked_weights(gfx.trace(*spec.build()), spec.seed)
    scores, plain = (ranked(p, importance) for p in (masked, written_out(masked)))
    assert scores.keys() == plain.keys()
    for name, score in scores.items():
        np.testing.assert_allclose(score, plain[name], rtol=1e-9, atol=1e-12)


@law(4, swept=6)
@given(specs(), st.sampled_from(("l1", "fpgm", "bn_scale", "taylor", "fisher")), KINDS)
def test_channels_that_masks_zero_are_worth_nothing(spec, importance, kind):
    program = zeroed_masks(with_masks(gfx.trace(*spec.build()), kind), spec.seed)
    masks = {path.removeprefix("masks."): mask for path, mask in masks_of(program).items()}
    try:
        scores = ranked(program, importance)
    except PreconditionError:
        reject()
    for name, score in scores.items():
        mask = masks.get(name.replace(".", "_"))
        if mask is not None:
            assert (score[~mask.kept.numpy()] == 0).all()


def ranked(program: Program, importance: str) -> dict:
    groups = gfx.channels(program)
    among = [g for g in groups if g.free and g.exact]
    return rank(groups, among, importance, batches=1)


@law(4, swept=6)
@given(specs(wraps=True), st.integers(0, 3))
def test_a_mask_costs_no_macs_and_its_parameters_count(spec, seed):
    before = gfx.trace(*spec.build())
    after = masked_weights(tapped(with_masks(before, LearnedMask)), seed)
    then, now = cost_of(before), cost_of(after)
    assert now.macs == then.macs
    learned = sum(mask.size for mask in masks_of(after).values())
    assert now.params == then.params + learned


@law(4, swept=6)
@given(specs(), st.integers(0, 3))
def test_shapes_of_masked_programs_are_foretold(spec, seed):
    model, inputs = spec.build()
    program = zeroed_masks(all_masked(gfx.trace(model, inputs), seed), seed)
    forget_shapes(program)
    propagate(program)
    Held(program.module).run(*inputs)


class Held(fx.Interpreter):
    def run_node(self, n: fx.Node):
        value = super().run_node(n)
        if isinstance(value, torch.Tensor) and n.op != "output":
            foretold = n.meta["val"]
            assert (value.shape, value.dtype) == (foretold.shape, foretold.dtype)
        return value


@law(4, swept=6)
@given(specs())
def test_stages_are_seen_through_masks_and_marks(spec):
    before = gfx.trace(*spec.build())
    after = all_masked(before, 0)
    assert {name: stages(after)[name] for name in stages(before)} == stages(before)


@law(4, swept=8)
@given(specs(), st.integers(0, 3))
def test_the_prices_of_a_masked_program_are_those_of_the_pruned_one(spec, seed):
    check_prices(masked_weights(tapped(with_masks(gfx.trace(*spec.build()), LearnedMask)), seed), 1)


@law(4, swept=8)
@given(specs(), st.integers(0, 3))
def test_a_change_of_a_masked_program_is_measured_bit_for_bit(spec, seed):
    program = zeroed_masks(all_masked(gfx.trace(*spec.build()), seed), seed)
    check_probing(program, [spec.inputs(spec.batch)])


def test_an_inspection_sees_the_layers_through_masks_and_taps():
    model = gfx.zoo.build("dcgan", ngf=4).eval()
    plain = gfx.trace(model)
    masked = tapped(with_masks(plain), kinds=(Tap,))
    tables = [gfx.inspect(program.module, program.example_inputs) for program in (plain, masked)]
    assert tables[0].rows == tables[1].rows


def test_a_mask_repeats_where_a_batch_is_folded_into_the_channels():
    block = blocks.Modulated(out=6, demodulate=False, blur=True)
    for kind in (ChannelMask, LearnedMask):
        for batch in (1, 2):
            spec = Spec(source=Source(kind="latent"), blocks=(block,), batch=batch)
            plain = gfx.trace(*spec.build())
            program = zeroed_masks(with_masks(plain, kind), 1)
            judge(spec, program, ratio=0.5)
            x = spec.inputs(3)
            twin = with_masks(plain, kind)
            assert alike(flat(twin.module(*x)), flat(plain.module(*x)))
            assert not torch.equal(flat(program.module(*x)), flat(plain.module(*x)))


def test_a_mask_that_does_not_fit_is_told():
    program = all_masked(gfx.trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3)), X))
    assert list(faults(program)) == []
    program.module.get_submodule("masks.0").mask = torch.ones(4, dtype=torch.bool)
    program.module.get_submodule("1").mask = torch.ones(3, 4, 3, 3, dtype=torch.bool)
    assert list(faults(program)) == [
        "module 1 has a mask of shape (3, 4, 3, 3), but a weight of shape (3, 8, 3, 3)",
        "module masks.0 says size=8, but its mask has 4",
    ]


def test_the_index_of_a_mask_must_have_values():
    spec = Spec(source=Source(kind="latent"), blocks=(blocks.Concat(inner=(blocks.Conv(),)),))
    program = with_masks(gfx.trace(*spec.build()))
    assert not any(group.pinned and "meta" in group.pinned for group in gfx.channels(program))
    program.module.to("meta")
    program.example_inputs = tuple(x.to("meta") for x in program.example_inputs)
    pinned = [group.pinned for group in gfx.channels(program) if group.pinned]
    assert any("the index of a mask is on the meta device, without values" in p for p in pinned)
