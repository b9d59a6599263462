"""Hypothesis strategies for random generators; everything shrinks to one conv and its head.

`specs()` draws readable descriptions (tests print them), `generators()` what they build.
"""

from hypothesis import strategies as st

from support import blocks
from support.blocks import (
    ACTS,
    APPROXIMATE,
    LATENTS,
    NORMS,
    SECOND_INPUTS,
    SHAPES,
    WRAPS,
    Block,
    Source,
    Spec,
)

__all__ = ["BLOCKS", "any_block", "generators", "specs"]

widths = st.sampled_from((4, 2, 6, 8))
norms = st.sampled_from(NORMS)
acts = st.sampled_from(ACTS)
booleans = st.booleans()


def one(*values: object) -> st.SearchStrategy:
    return st.sampled_from(values)


def conv(norms: st.SearchStrategy = norms) -> st.SearchStrategy[Block]:
    return st.builds(
        blocks.Conv,
        out=widths,
        kernel=one(3, 1),
        stride=one(1, 2),
        dilation=one(1, 2),
        groups=one(1, 2, 4),
        bias=one(True, False),
        norm=norms,
        act=acts,
        padding_mode=one("zeros", "reflect", "circular", "replicate"),
    )


# from plain to involved: a failing example shrinks towards the front
BLOCKS: dict[type[Block], st.SearchStrategy[Block]] = {
    blocks.Conv: conv(),
    blocks.Deconv: st.builds(
        blocks.Deconv,
        out=widths,
        groups=one(1, 2),
        bias=one(True, False),
        norm=norms,
        act=acts,
    ),
    blocks.Separable: st.builds(
        blocks.Separable,
        out=widths,
        multiplier=one(1, 2),
        norm=norms,
        transposed=booleans,
    ),
    blocks.ReflectConv: st.builds(blocks.ReflectConv, out=widths),
    blocks.Subclass: st.builds(blocks.Subclass, out=widths),
    blocks.FunctionalConv: st.builds(
        blocks.FunctionalConv, out=widths, how=one("plain", "transposed", "linear")
    ),
    blocks.Shared: st.builds(blocks.Shared, act=acts, pyramid=booleans),
    blocks.Branches: st.builds(
        blocks.Branches, out=widths, how=one("select", "cat", "stack", "most", "dense")
    ),
    blocks.Picked: st.builds(blocks.Picked, how=one("gate", "last", "double", "select", "number")),
    blocks.Tied: st.builds(blocks.Tied, out=widths, how=one("back", "back_linear", "dilated")),
    blocks.Twice: st.builds(blocks.Twice, norm=norms),
    blocks.Resize: st.builds(blocks.Resize, bilinear=booleans, functional=booleans),
    blocks.PixelShuffle: st.builds(blocks.PixelShuffle, out=widths, functional=booleans),
    blocks.Swap: st.builds(
        blocks.Swap,
        how=one("swap", "gate", "shuffle", "shuffle_module", "glu", "glu_module", "slices", "flip"),
    ),
    blocks.Noise: st.builds(blocks.Noise, like=booleans),
    blocks.InputSkip: st.builds(blocks.InputSkip, how=one("cat", "add")),
    blocks.LabelConcat: st.builds(blocks.LabelConcat, last=booleans, repeat=booleans),
    blocks.Shortcut: st.builds(
        blocks.Shortcut, how=one("repeat", "tile", "interleave", "pad", "zeros", "drop")
    ),
    blocks.SqueezeExcite: st.builds(blocks.SqueezeExcite, inner=one(2, 4), linear=booleans),
    blocks.PooledConcat: st.builds(blocks.PooledConcat, spatial=booleans),
    blocks.ClassActivation: st.builds(blocks.ClassActivation, most=booleans),
    blocks.ConditionalNorm: st.builds(blocks.ConditionalNorm, chunked=booleans),
    blocks.StyleNorm: st.builds(blocks.StyleNorm, cut=one("chunk", "view", "split", "slices")),
    blocks.Spade: st.builds(blocks.Spade, hidden=widths, chunked=booleans),
    blocks.TimeResidual: st.builds(blocks.TimeResidual, out=widths, scaled=booleans),
    blocks.Crop: st.builds(blocks.Crop, how=one("crop", "roll", "flip", "grid", "unfold")),
    blocks.Parts: st.builds(blocks.Parts, how=one("split", "literal", "write", "write_all")),
    blocks.Blur: st.builds(blocks.Blur, how=one("buffer", "expand", "repeat", "literal")),
    blocks.Modulated: st.builds(
        blocks.Modulated,
        out=widths,
        demodulate=one(True, False),
        blur=booleans,
        noise=booleans,
    ),
    blocks.ThroughLinear: st.builds(
        blocks.ThroughLinear, out=widths, hidden=one(6, 3), literal=one(True, False)
    ),
    blocks.ChannelsLast: st.builds(
        blocks.ChannelsLast, hidden=one(6, 3), windows=booleans, gated=booleans
    ),
    blocks.Cells: st.builds(blocks.Cells, back=booleans, last=booleans),
    blocks.Fourier: st.builds(blocks.Fourier, interleaved=one(True, False)),
    blocks.Attention: st.builds(
        blocks.Attention,
        inner=one(2, 4),
        project=booleans,
        how=one("bmm", "matmul", "einsum", "literal"),
    ),
    blocks.MultiHead: st.builds(
        blocks.MultiHead,
        width=one(2, 3),
        heads=one(2, 3),
        how=one("matmul", "sdpa", "einsum", "whole"),
        one=booleans,
        cross=booleans,
    ),
    blocks.WindowAttention: st.builds(blocks.WindowAttention, width=one(2, 3), bias=booleans),
}
# convolutions are half of all: they are what is pruned
simple = st.one_of(BLOCKS[blocks.Conv], st.one_of(*BLOCKS.values()))
loose = st.one_of(
    conv(one(*APPROXIMATE)),
    st.builds(blocks.Subclass, out=widths, standardised=one(True)),
    simple,
)


def _with_bodies(inner: st.SearchStrategy[Block]) -> st.SearchStrategy[Block]:
    bodies = st.lists(inner, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        inner,
        st.builds(blocks.Residual, inner=bodies, how=one("add", "iadd", "gate", "scale")),
        st.builds(blocks.Concat, inner=bodies, nested=booleans),
    )


# two levels at most; st.recursive would do, but it does not shrink a list by dropping elements
any_block = _with_bodies(_with_bodies(simple))
any_loose = _with_bodies(_with_bodies(loose))
sources = st.builds(
    Source,
    kind=one("image", *(kind for kind in SHAPES if kind != "image"), *LATENTS),
    out=widths,
    second=st.sampled_from(SECOND_INPUTS),
    join=booleans,
)


def specs(
    max_blocks: int = 4, wraps: bool = False, approximate: bool = False
) -> st.SearchStrategy[Spec]:
    """Draws descriptions of generators of at most `max_blocks` blocks between source and head.

    With `wraps` some have spectral or weight norm on every layer; with `approximate` some have
    norms whose channels cannot be removed exactly.
    """
    return st.builds(
        Spec,
        source=sources,
        blocks=st.lists(any_loose if approximate else any_block, max_size=max_blocks).map(tuple),
        outputs=one("one", "two", "dict", "features"),
        batch=one(1, 2),
        seed=st.integers(0, 7),
        wrap=st.sampled_from(("", *WRAPS)) if wraps else st.just(""),
    )


def generators(max_blocks: int = 4) -> st.SearchStrategy:
    """Draws `(model.eval(), example_inputs)` in float64."""
    return specs(max_blocks).map(Spec.build)
