"""Generators that the random ones found, and what gfx once did to them."""

import itertools

import pytest

import gfx
from passes.channel_prune import ChannelPrune
from support.blocks import (
    Branches,
    Concat,
    Conv,
    Deconv,
    Fourier,
    Modulated,
    MultiHead,
    Noise,
    Parts,
    Picked,
    PooledConcat,
    Residual,
    Separable,
    Shortcut,
    Source,
    Spec,
    SqueezeExcite,
    Subclass,
    Swap,
    TimeResidual,
    Twice,
    WindowAttention,
)
from support.laws import (
    judge,
    long_changes,
    partition,
    prune_as_told,
    pruned,
    restricted,
    same,
    staying,
    union,
    wrongly_pinned,
)
from support.oracle import assert_equal_outputs

WRONG = {
    "a shuffle of channels that no grouped convolution reads": Spec(
        blocks=(Swap(how="shuffle_module"),)
    ),
    "noise on a latent's map": Spec(source=Source("latent"), blocks=(Noise(),)),
    "a grouped convolution beside features that are an output": Spec(
        blocks=(Residual((Conv(groups=2),)),), outputs="features"
    ),
    "a batch folded into the channels that a group norm makes": Spec(
        blocks=(Deconv(groups=2, norm="group"), Modulated())
    ),
}
GONE = {
    how: Spec(source=Source("latent_last"), blocks=(Swap(how=how),)) for how in ("swap", "slices")
} | {
    "parts": Spec(source=Source("latent", out=8), blocks=(Parts(),)),
    "groups": Spec(source=Source("latent"), blocks=(Conv(norm="group"), Swap())),
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
    "noise as large as one channel of a latent's map": Spec(
        source=Source("latent"), blocks=(Noise(like=True),)
    ),
}
# what was pinned is so for another reason than it said
REASONS = {
    "two channels exchanged beside their copies": Spec(
        blocks=(Separable(out=2), Swap(), Shortcut()), outputs="dict"
    ),
    "two channels of a latent's map exchanged": Spec(
        source=Source("latent"), blocks=(Swap(how="gate"), Swap()), outputs="features"
    ),
}
LONG = {"a kernel repeated for each channel": Spec(blocks=(Modulated(blur=True),))}
AGAIN = {
    "a group norm of which one group is left": Spec(
        source=Source(out=8), blocks=(Deconv(), Deconv(norm="group"))
    ),
    "an embedding before a group norm of which one group is left": Spec(blocks=(TimeResidual(),)),
    "a grouped convolution that has become depthwise": Spec(blocks=(Conv(groups=2), Conv())),
    "heads whose width is one": Spec(blocks=(MultiHead(width=2, heads=2),)),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", [*WRONG, *PINNED])
def test_what_was_found_stays_right(name, seed):
    spec = (WRONG | PINNED)[name]
    judge(spec, gfx.trace(*spec.build()), ratio=0.5, seed=seed)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", GONE)
def test_a_part_of_a_latents_map_may_lose_all_its_channels(name, seed):
    spec = GONE[name]
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


@pytest.mark.parametrize("ratio", [0.25, 0.5])
@pytest.mark.parametrize("name", AGAIN)
def test_what_several_prunes_record_one_repeats(name, ratio):
    spec, seen = AGAIN[name], 0
    before = gfx.trace(*spec.build())
    for first, second in itertools.product(range(2), range(3)):
        once, fields = before.copy(), {"ratio": ratio, "scope": "global", "min_channels": 1}
        outcome = prune_as_told(once, *spec.inputs(1), importance="random", seed=first, **fields)
        twice, fields = once.copy(), {**fields, "importance": "random"}
        try:
            further = prune_as_told(twice, *spec.inputs(1), seed=second, **fields)
        except gfx.PreconditionError as error:
            assert "removes nothing" in str(error)  # noqa: PT017 - a single channel is left
            continue
        kept = union(outcome.details["kept"], further.details["kept"])
        direct, _ = pruned(before, kept=kept)
        assert same(twice.module.state_dict(), direct.module.state_dict())
        inputs = spec.inputs(3)
        assert_equal_outputs(twice.module(*inputs), direct.module(*inputs))
        prune_as_told(before.copy(), *inputs, kept=kept)
        seen += 1
    assert seen


def test_what_a_pruned_weight_stores_leaves_the_other_groups_alone():
    spec = Spec(blocks=(Subclass(standardised=True),))
    before = gfx.trace(*spec.build())
    after, outcome = pruned(before, ratio=0.25, scope="global", seed=0)
    known = {path: tensor.shape for path, tensor in before.module.state_dict().items()}
    traced = gfx.trace(after.module, before.example_inputs)
    left = restricted(partition(gfx.channels(traced)), {}, known)
    whole = partition(gfx.channels(before))
    assert left == restricted(whole, staying(outcome), known)


def test_a_map_of_noise_is_not_folded_into_its_strength():
    model, inputs = Spec(blocks=(Modulated(noise=True),)).build()
    small = gfx.apply({"passes": ["fold_constants"]}, model, inputs)
    assert gfx.cost(small, inputs).params <= gfx.cost(model, inputs).params
    (skip,) = (s for s in gfx.report(small).passes[0].skips if "64 numbers" in s.why)
    assert skip.why == "it has 64 numbers, and is made of 1 that learn"


@pytest.mark.parametrize("name", PINNED)
def test_what_was_pinned_stays_free(name):
    groups = gfx.channels(gfx.trace(*PINNED[name].build()))
    assert groups["source.layer"].free
    assert groups["source.layer"].size == 4


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("how", ["gate", "last", "double", "select", "number"])
def test_a_channel_picked_out_of_a_latents_map_leaves_the_others_free(how, seed):
    spec = Spec(source=Source("latent"), blocks=(Picked(how=how),))
    program = gfx.trace(*spec.build())
    groups = [g for g in gfx.channels(program) if g.name.startswith("source.layer") and g.producers]
    assert sorted((g.size, g.free) for g in groups) == [(1, False), (3, True)]
    judge(spec, program, ratio=0.5, seed=seed)


@pytest.mark.parametrize("source", ["image", "latent"])
def test_channels_that_are_all_taken_apart_are_pinned_for_that(source):
    spec = Spec(source=Source(source), blocks=(Picked(how="unbind"),))
    groups = [g for g in gfx.channels(gfx.trace(*spec.build())) if "source.layer" in g.producers]
    assert {g.pinned for g in groups} == {"unbind picks it out by its position"}


@pytest.mark.parametrize("name", REASONS)
def test_what_is_pinned_says_why(name):
    assert not wrongly_pinned(gfx.channels(gfx.trace(*REASONS[name].build())))


@pytest.mark.parametrize("name", LONG)
def test_what_is_called_long_does_not_change_the_groups(name):
    assert not long_changes(gfx.trace(*LONG[name].build()))


@pytest.mark.parametrize("fields", [{"widths": 2}, {"kept": (2, 3)}])
def test_no_field_removes_the_whole_of_a_part(fields):
    spec = Spec(blocks=(Conv(), Parts()), outputs="features")
    (field, value), name = *fields.items(), "body.layers.0.layers.0"
    with pytest.raises(gfx.RecipeError, match=r"last of their group|all 2 channels of .*keep one"):
        ChannelPrune(**{field: {name: value}}).apply(gfx.trace(*spec.build()), gfx.Context())


def test_a_norm_without_tensors_may_have_other_widths_in_other_places():
    spec = Spec(blocks=(Branches(), Twice(norm="instance")))
    model, inputs = spec.build()
    for ratio in (0.25, 0.5):
        prune = {"channel_prune": {"ratio": ratio, "min_channels": 1}}
        small = gfx.apply({"passes": [prune]}, model, inputs)
        assert small(*inputs) is not None
