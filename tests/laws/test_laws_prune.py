"""Laws of removing channels, on random generators: who judges is the oracle, or a plain slice."""

import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from torch import Tensor

import gfx
from gfx.coupling.channel_names import channels_of
from gfx.errors import RecipeError
from gfx.ir.program import Program
from support.laws import judge, law, pruned, same, staying, union
from support.oracle import Kept
from support.strategies import specs

fields = st.fixed_dictionaries(
    {
        "ratio": st.sampled_from((0.5, 0.25, 0.75)),
        "scope": st.sampled_from(("local", "global")),
        "attention": st.sampled_from(("width", "heads")),
        "round_to": st.sampled_from((1, 2)),
        "seed": st.integers(0, 7),
    }
)


@law(30, swept=60)
@given(specs(), fields)
def test_pruned_channels_are_those_that_nothing_reads(spec, fields):
    judge(spec, gfx.trace(*spec.build()), **fields)


@law(12, swept=25)
@given(specs(approximate=True), fields, st.sampled_from(("whole", "regroup")))
def test_an_approximate_removal_is_what_the_pass_says_it_must_be(spec, fields, group_norm):
    judge(spec, gfx.trace(*spec.build()), group_norm=group_norm, **fields)


def widths_of(program: Program) -> dict[str, int]:
    """Reads how many channels the first producer of each free group makes."""
    groups = gfx.channels(program)
    names = {group.producers[0] for group in groups.free if group.producers}
    sizes = {}
    for axis in (axis for axes in groups.axes.values() for axis in axes if axis is not None):
        owner = axis.tensor.rpartition(".")[0] or axis.tensor
        if groups.role(axis.tensor, axis.dim) == "out" and owner in names:
            sizes[owner] = len(channels_of(groups, axis))
    return sizes


def drawn_widths(data: st.DataObject, program: Program) -> dict[str, int]:
    """Draws how many channels some modules keep."""
    return {
        name: data.draw(st.integers(1, size), label=name)
        for name, size in widths_of(program).items()
        if data.draw(st.booleans(), label=f"narrow {name}")
    }


@law(12, swept=25)
@given(specs(), st.data())
def test_random_widths_are_right_too(spec, data):
    program = gfx.trace(*spec.build())
    widths = drawn_widths(data, program)
    try:
        judge(spec, program, widths=widths)
    except RecipeError as error:
        if "cannot be reached" not in str(error):
            raise
        reject()  # the channels of this module go several at a time


def sliced(before: Program, kept: Kept) -> dict[str, Tensor]:
    """Cuts every tensor of a program by hand."""
    tensors = dict(before.module.state_dict())
    for path, dims in kept.items():
        for dim, stay in dims.items():
            tensors[path] = tensors[path].index_select(dim, torch.tensor(stay))
    return tensors


@law(12, swept=25)
@given(specs(), st.sampled_from((0.5, 0.25, 0.75)), st.integers(0, 3))
def test_pruning_by_kept_equals_slicing_by_hand(spec, ratio, seed):
    before = gfx.trace(*spec.build())
    _, outcome = pruned(before, ratio=ratio, seed=seed)
    kept = {name: tuple(stay) for name, stay in outcome.details["kept"].items()}
    after, again = pruned(before, kept=kept)
    assert same(after.module.state_dict(), sliced(before, staying(again)))


@law(12, swept=25)
@given(specs(approximate=True))
def test_full_widths_change_nothing(spec):
    before = gfx.trace(*spec.build())
    widths = widths_of(before)
    after, outcome = pruned(before, **({"widths": widths} if widths else {"ratio": 0.0}))
    assert outcome.changes == []
    assert after.text() == before.text()
    assert same(after.module.state_dict(), before.module.state_dict())


@law(12, swept=25)
@given(specs(), st.integers(0, 3), st.integers(0, 3))
def test_pruning_twice_equals_pruning_once(spec, first, second):
    before = gfx.trace(*spec.build())
    once, outcome = pruned(before, ratio=0.25, scope="global", seed=first)
    twice, further = pruned(once, ratio=0.25, scope="global", seed=second)
    assert same(twice.module.state_dict(), sliced(before, both(before, outcome, further)))
    kept = union(outcome.details["kept"], further.details["kept"])
    direct, _ = pruned(before, kept=kept)
    assert same(twice.module.state_dict(), direct.module.state_dict())
    for batch in (spec.batch, 3):
        inputs = spec.inputs(batch)
        a, b = twice.module(*inputs), direct.module(*inputs)
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def both(before: Program, first: object, second: object) -> Kept:
    """The same for the indices of every tensor."""
    kept = {path: dict(dims) for path, dims in staying(first).items()}
    for path, dims in staying(second).items():
        for dim, stay in dims.items():
            own = kept.setdefault(path, {}).get(dim)
            kept[path][dim] = stay if own is None else [own[i] for i in stay]
    return kept
