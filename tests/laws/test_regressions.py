"""Generators that the random ones found, and what gfx once did to them."""

import pytest

import gfx
from support.blocks import (
    Concat,
    Conv,
    Fourier,
    Noise,
    PooledConcat,
    Residual,
    Source,
    Spec,
    SqueezeExcite,
    Swap,
    WindowAttention,
)
from support.laws import judge

WRONG = {
    "a shuffle of channels that no grouped convolution reads": Spec(
        blocks=(Swap(how="shuffle_module"),)
    ),
    "noise on a latent's map": Spec(source=Source("latent"), blocks=(Noise(),)),
    "a grouped convolution beside features that are an output": Spec(
        blocks=(Residual((Conv(groups=2),)),), outputs="features"
    ),
}
PINNED = {
    "maxima over the positions of a latent's map": Spec(
        source=Source("latent"), blocks=(PooledConcat(),)
    ),
    "means over the positions of a latent's map": Spec(
        source=Source("latent"), blocks=(SqueezeExcite(),)
    ),
    "frequencies of a latent's map": Spec(source=Source("latent"), blocks=(Fourier(),)),
    "a mask over the positions of a latent's map": Spec(
        source=Source("latent"), blocks=(PooledConcat(spatial=True),)
    ),
    "a latent's map beside another": Spec(source=Source("latent"), blocks=(Concat(),)),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", [*WRONG, *PINNED])
def test_what_was_found_stays_right(name, seed):
    spec = (WRONG | PINNED)[name]
    judge(spec, gfx.trace(*spec.build()), ratio=0.5, seed=seed)


@pytest.mark.parametrize("seed", range(4))
def test_regrouping_leaves_groups_of_one_channel_alone(seed):
    spec = Spec(blocks=(Conv(out=4, norm="group_each"), Conv(out=2, norm="group")))
    judge(spec, gfx.trace(*spec.build()), ratio=0.5, seed=seed, group_norm="regroup")


@pytest.mark.parametrize("seed", range(4))
def test_a_table_of_positions_leaves_the_width_of_heads_free(seed):
    spec = Spec(blocks=(WindowAttention(bias=True),))
    program = gfx.trace(*spec.build())
    assert gfx.channels(program)["body.layers.0.all"].free
    judge(spec, program, ratio=0.5, seed=seed)


@pytest.mark.parametrize("name", PINNED)
def test_what_was_pinned_stays_free(name):
    groups = gfx.channels(gfx.trace(*PINNED[name].build()))
    assert groups["source.layer"].free
    assert groups["source.layer"].size == 4
