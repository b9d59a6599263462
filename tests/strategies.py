"""Hypothesis strategies for random generators; everything shrinks to one conv and its head.

`specs()` draws readable descriptions (tests print them), `generators()` what they build.
"""

from hypothesis import strategies as st

import blocks
from blocks import ACTS, NORMS, SECOND_INPUTS, WRAPS, Block, Source, Spec

__all__ = ["generators", "specs"]

widths = st.sampled_from((4, 2, 6, 8))
norms = st.sampled_from(NORMS)
acts = st.sampled_from(ACTS)
booleans = st.booleans()

convs = st.builds(
    blocks.Conv,
    out=widths,
    kernel=st.sampled_from((3, 1)),
    stride=st.sampled_from((1, 2)),
    dilation=st.sampled_from((1, 2)),
    groups=st.sampled_from((1, 2)),
    bias=st.sampled_from((True, False)),
    norm=norms,
    act=acts,
)
deconvs = st.builds(
    blocks.Deconv,
    out=widths,
    groups=st.sampled_from((1, 2)),
    bias=st.sampled_from((True, False)),
    norm=norms,
    act=acts,
)
separables = st.builds(
    blocks.Separable,
    out=widths,
    multiplier=st.sampled_from((1, 2)),
    norm=norms,
    transposed=booleans,
)

# from plain to involved: a failing example shrinks towards the front
simple = st.one_of(
    convs,
    deconvs,
    separables,
    st.builds(blocks.ReflectConv, out=widths),
    st.builds(blocks.FunctionalConv, out=widths),
    st.builds(blocks.Shared, act=acts),
    st.builds(blocks.Resize, bilinear=booleans, functional=booleans),
    st.builds(blocks.PixelShuffle, out=widths, functional=booleans),
    st.builds(blocks.Swap, how=st.sampled_from(("swap", "gate", "shuffle"))),
    st.builds(blocks.Noise),
    st.builds(blocks.InputSkip, how=st.sampled_from(("cat", "add"))),
    st.builds(blocks.SqueezeExcite, inner=st.sampled_from((2, 4)), linear=booleans),
    st.builds(blocks.ConditionalNorm, chunked=booleans),
    st.builds(blocks.Spade, hidden=widths),
    st.builds(blocks.Attention, inner=st.sampled_from((2, 4)), project=booleans),
)


def _with_bodies(inner: st.SearchStrategy[Block]) -> st.SearchStrategy[Block]:
    bodies = st.lists(inner, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        inner,
        st.builds(blocks.Residual, inner=bodies, how=st.sampled_from(("add", "iadd", "gate"))),
        st.builds(blocks.Concat, inner=bodies),
    )


# two levels at most; st.recursive would do, but it does not shrink a list by dropping elements
any_block = _with_bodies(_with_bodies(simple))
sources = st.builds(
    Source,
    kind=st.sampled_from(("image", "latent", "latent_map")),
    out=widths,
    second=st.sampled_from(SECOND_INPUTS),
    join=booleans,
)


def specs(max_blocks: int = 4, wraps: bool = False) -> st.SearchStrategy[Spec]:
    """Draws descriptions of generators of at most `max_blocks` blocks between source and head.

    With `wraps` some have spectral or weight norm on every layer.
    """
    return st.builds(
        Spec,
        source=sources,
        blocks=st.lists(any_block, max_size=max_blocks).map(tuple),
        outputs=st.sampled_from(("one", "two", "features")),
        batch=st.sampled_from((1, 2)),
        seed=st.integers(0, 7),
        wrap=st.sampled_from(("", *WRAPS)) if wraps else st.just(""),
    )


def generators(max_blocks: int = 4) -> st.SearchStrategy:
    """Draws `(model.eval(), example_inputs)` in float64."""
    return specs(max_blocks).map(Spec.build)
