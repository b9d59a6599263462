"""Laws of the channel groups: names, the front end and a removal before do not change them."""

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch import nn

import gfx
from gfx.coupling import Group
from gfx.frontend.refusal import Refusal
from gfx.ir.program import Program
from support import blocks
from support.blocks import ConditionalNorm, Conv, LabelConcat, MultiHead, Source, Spade, Spec
from support.laws import (
    Partition,
    law,
    moved,
    partition,
    pruned,
    renamed,
    restricted,
    staying,
    through,
    wrongly_pinned,
)
from support.oracle import Kept
from support.strategies import BLOCKS, specs


def groups_of(program: Program) -> Partition:
    return partition(gfx.channels(program))


@law(12, swept=25)
@given(specs(approximate=True))
def test_names_do_not_change_the_groups(spec):
    program = gfx.trace(*spec.build())
    again, paths = renamed(program)
    wanted = {
        frozenset((moved(path, paths), dim, i) for path, dim, i in members): free
        for members, free in groups_of(program).items()
    }
    assert groups_of(again) == wanted


class Within(nn.Module):
    """A generator inside another module."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.outer = nn.ModuleList([inside])

    def forward(self, image):
        return self.outer[0](image)


@pytest.mark.parametrize("name", ["dcgan", "resnet_9blocks", "sagan", "srresnet"])
def test_a_container_does_not_change_the_groups(name):
    with torch.device("meta"):
        model = gfx.zoo.build(name)
    program = gfx.trace(model)
    inside = gfx.trace(Within(model), program.example_inputs)
    wanted = {
        frozenset((f"outer.0.{path}", dim, i) for path, dim, i in members): free
        for members, free in groups_of(program).items()
    }
    assert groups_of(inside) == wanted


@law(12, swept=25)
@given(specs(approximate=True), st.integers(0, 3))
def test_a_pruned_program_has_the_groups_that_were_left(spec, seed):
    before = gfx.trace(*spec.build())
    after, outcome = pruned(before, ratio=0.25, scope="global", seed=seed)
    kept = staying(outcome)
    # what has one channel left is a number that broadcasts, and couples nothing any more
    assume(all(len(stay) > 1 for dims in kept.values() for stay in dims.values()))
    assume(all(group.size == 1 or left_of(group, kept) > 1 for group in gfx.channels(before)))
    assume(not newly_depthwise(before, after))
    # what a removal stores beside them is of channels too, and no part of the original
    known = {path: t.shape for path, t in before.module.state_dict().items()}
    left = after.module.state_dict().keys()
    known = {path: shape for path, shape in known.items() if path in left}
    traced = gfx.trace(after.module, before.example_inputs)
    assert restricted(groups_of(traced), {}, known) == restricted(groups_of(before), kept, known)


def left_of(group: Group, kept: Kept) -> int:
    """Counts the channels of a group that are left."""
    found: set[int] = set()
    for m in group.members:
        stay = kept.get(m.tensor, {}).get(m.dim)
        there = slice(None) if stay is None else np.isin(m.index, stay)
        found.update(m.channel[there].tolist())
    return len(found)


def newly_depthwise(before: Program, after: Program) -> bool:
    """Whether a grouped convolution has one channel a group left, each of which may go alone."""
    convs = {
        p: m for p, m in before.module.named_modules() if isinstance(m, nn.modules.conv._ConvNd)
    }
    return any(
        1 < after.module.get_submodule(path).groups == after.module.get_submodule(path).in_channels
        and conv.groups < conv.in_channels
        for path, conv in convs.items()
    )


SECOND = {ConditionalNorm: "class", Spade: "map", LabelConcat: "label", MultiHead: "tokens"}


def both_front_ends_agree(spec: Spec) -> None:
    model, inputs = spec.build()
    own = model.state_dict()
    sizes = {path: tensor.shape for path, tensor in own.items()}
    try:
        first = through("symbolic", model, inputs)
    except Refusal:
        return  # a model that both allow is meant
    second = through("export", model, inputs)
    a, b = (restricted(groups_of(program), {}, sizes) for program in (first, second))
    assert a == b


@pytest.mark.parametrize("kind", BLOCKS, ids=lambda kind: kind.__name__)
def test_both_front_ends_see_the_same_groups_in_every_block(kind):
    both_front_ends_agree(Spec(Source(second=SECOND.get(kind, "")), (kind(), Conv()), batch=2))


@example(Spec(blocks=(blocks.Attention(how="einsum"), blocks.PixelShuffle())))
@law(4)
@given(specs(max_blocks=3, approximate=True))
def test_both_front_ends_see_the_same_groups(spec):
    both_front_ends_agree(spec)


ENDS = ("the model's input", "the model's output")


@pytest.mark.parametrize("kind", BLOCKS, ids=lambda kind: kind.__name__)
def test_the_channels_that_layers_make_are_free(kind):
    @law(3, swept=6)
    @given(BLOCKS[kind])
    def free(block):
        source = Source(out=8, second=SECOND.get(kind, ""))
        groups = gfx.channels(gfx.trace(*Spec(source, (block, Conv(out=8))).build()))
        made = [g for g in groups if g.producers and not any(e in str(g.pinned) for e in ENDS)]
        assert not wrongly_pinned(made)
        # a mask's single channel and a grid's two are all that may be left
        assert sum(g.size for g in made if g.free) >= 0.75 * sum(g.size for g in made)

    free()


@law(12, swept=25)
@given(specs(approximate=True))
def test_what_is_pinned_has_a_right_reason(spec):
    assert not wrongly_pinned(gfx.channels(gfx.trace(*spec.build())))
