"""What masks zero is gone, the masks too, and the output is what it was."""

import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, fx, nn

import gfx
from blocks import Spec
from gfx.contract import Outcome
from gfx.modules import ChannelMask
from gfx.program import Program
from laws import law
from masked import masked_weights, masks_of, with_masks, zeroed_masks
from oracle import assert_equal_outputs, flat
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


@law(20)
@given(specs(), st.integers(0, 7), st.sampled_from((0.5, 0.25, 0.9)))
def test_folding_channel_masks_keeps_values(spec, seed, share):
    masked = zeroed_masks(with_masks(gfx.trace(*spec.build())), seed, share)
    outcome = held(masked, spec)
    gone = sum(int((~m.mask).sum()) for m in masks_of(masked).values())
    assert outcome.details.get("achieved", {}).get("removed", 0) == gone
    assert outcome.skips == []


@law(20)
@given(specs(approximate=True))
def test_masks_of_ones_fold_to_the_identical_program(spec):
    program = gfx.trace(*spec.build())
    masked = masked_weights(with_masks(program), share=0.0)
    after, outcome = folded(masked)
    assert same(after.module, program.module)
    assert outcome.skips == []


@law(20)
@given(specs(approximate=True), st.data())
def test_masks_anywhere_fold_exactly(spec, data):
    program = gfx.trace(*spec.build())
    if data.draw(st.booleans(), label="channels too"):
        program = zeroed_masks(with_masks(program))
    if data.draw(st.booleans(), label="elements too"):
        program = masked_weights(program)
    gfx.shapes.propagate(program)
    for i, node in enumerate(data.draw(st.lists(outputs(program), unique=True, max_size=3))):
        shape = node.meta["val"].shape
        dim = data.draw(st.sampled_from((1, len(shape) - 1)))
        drawn = torch.rand(shape[dim], generator=torch.Generator().manual_seed(i)) < 0.5
        mask_output(program, node, dim).mask.copy_(drawn)
    inputs = spec.inputs(spec.batch, 8)
    wanted = program.module(*inputs)
    assume(flat(wanted).isfinite().all())  # the logarithm of a zero, and such
    after, _ = folded(program)
    assert_equal_outputs(wanted, after.module(*inputs))


def outputs(program: Program) -> st.SearchStrategy[fx.Node]:
    """Draws nodes that give an activation."""
    nodes = [n for n in program.nodes() if n.op in ("call_module", "call_function")]
    values = [(n, n.meta["val"]) for n in nodes]
    return st.sampled_from(
        [n for n, v in values if isinstance(v, Tensor) and v.ndim > 1 and v.is_floating_point()]
    )


def mask_output(program: Program, node: fx.Node, dim: int = 1) -> ChannelMask:
    """Puts a mask on what one node gives."""
    mask = ChannelMask(node.meta["val"].shape[dim], granularity="filter")
    name = f"masks.out_{node.name}"
    program.module.add_submodule(name, mask)
    with program.graph.inserting_after(node):
        masked = program.graph.call_module(name, (node, dim))
    node.replace_all_uses_with(masked, delete_user_cb=lambda user: user is not masked)
    program.recompile()
    return mask
