"""What masks zero is gone, the masks too, and the output is what it was."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import gfx
from blocks import Spec
from gfx.contract import Outcome
from gfx.program import Program
from laws import law
from masking import mask_channels, mask_elements, mask_output, zero_some
from oracle import assert_equal_outputs
from passes.fold_masks import FoldMasks
from strategies import specs


def folded(program: Program) -> tuple[Program, Outcome]:
    """Folds a copy, and holds the pass to all it promises."""
    after, pass_ = program.copy(), FoldMasks()
    pass_.requires(after)
    outcome = pass_.apply(after)
    pass_.ensures(after)
    assert not [n for n, _ in after.module.named_modules() if "masks" in n.split(".")]
    assert "masks" not in after.module.code
    return after, outcome


def same(a: nn.Module, b: nn.Module) -> bool:
    """Whether two programs have the same code, keys and bytes."""
    one, two = a.state_dict(), b.state_dict()
    kinds = [[(n, type(m).__qualname__) for n, m in x.named_modules()] for x in (a, b)]
    return (
        a.code == b.code
        and kinds[0] == kinds[1]
        and list(one) == list(two)
        and all(torch.equal(one[k], two[k]) for k in one)
    )


def held(before: Program, spec: Spec) -> Outcome:
    """Folds, and compares on another batch too, where masks do not count on the batch."""
    after, outcome = folded(before)
    batches = (spec.batch,) if "Modulated" in repr(spec) else (spec.batch, 3)
    for batch in batches:  # a modulated convolution lays the images out as channels
        inputs = spec.inputs(batch, 8)
        assert_equal_outputs(before.module(*inputs), after.module(*inputs))
    return outcome


@law(40)
@given(specs(), st.integers(0, 7), st.sampled_from((0.5, 0.25, 0.9)))
def test_folding_channel_masks_keeps_values(spec, seed, share):
    program = gfx.trace(*spec.build())
    masks = mask_channels(program)
    for i, mask in enumerate(masks.values()):
        zero_some(mask.mask, seed + i, share)
    outcome = held(program, spec)
    gone = sum(int((~m.mask).sum()) for m in masks.values())
    assert outcome.details.get("achieved", {}).get("removed", 0) == gone
    assert outcome.skips == []


@law(20)
@given(specs(wraps=True, approximate=True))
def test_masks_of_ones_fold_to_the_identical_program(spec):
    program = gfx.trace(*spec.build())
    masked = program.copy()
    mask_channels(masked)
    mask_elements(masked)
    after, outcome = folded(masked)
    assert same(after.module, program.module)
    assert outcome.skips == []


@law(40)
@given(specs(wraps=True, approximate=True), st.data())
def test_masks_anywhere_fold_exactly(spec, data):
    program = gfx.trace(*spec.build())
    inputs = spec.inputs(spec.batch, 8)
    if data.draw(st.booleans(), label="channels too"):
        for i, mask in enumerate(mask_channels(program).values()):
            zero_some(mask.mask, i)
    if data.draw(st.booleans(), label="elements too"):
        for i, layer in enumerate(mask_elements(program)):
            zero_some(layer.mask, i)
    gfx.shapes.propagate(program)
    nodes = [n for n in program.nodes() if n.op == "call_module" and is_wide(n.meta["val"])]
    targets = st.sampled_from([n.target for n in nodes])
    chosen = data.draw(st.lists(targets, unique=True, max_size=3))
    for i, target in enumerate(chosen):
        node = next(n for n in nodes if n.target == target)
        dim = data.draw(st.sampled_from((1, node.meta["val"].ndim - 1)))
        mask = mask_output(program, node.target, node.meta["val"].shape[dim], dim)
        zero_some(mask.mask, i)
    after, _ = folded(program)
    assert_equal_outputs(program.module(*inputs), after.module(*inputs))


def is_wide(value) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > 1 and value.is_floating_point()
