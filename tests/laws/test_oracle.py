"""The oracle itself: it accepts a right prune done by hand and rejects every wrong one."""

import pytest
import torch
from torch import nn

from support import blocks
from support.blocks import Conv, Source, Spec
from support.oracle import assert_equal_outputs, deviation, zeroed


def narrowed(model, sizes):
    """Slices tensors by hand: {path: {dim: indices}}."""
    for path, dims in sizes.items():
        owner, _, name = path.rpartition(".")
        module = model.get_submodule(owner)
        value = getattr(module, name).detach()
        for dim, indices in dims.items():
            value = value.index_select(dim, torch.tensor(indices))
        if name in module._buffers:
            module._buffers[name] = value
        else:
            module._parameters[name] = nn.Parameter(value)
    return model


RIGHT = {
    "source.layer.weight": {0: [0, 2, 3]},
    "source.layer.bias": {0: [0, 2, 3]},
    "body.layers.0.layers.0.weight": {0: [0, 1, 3], 1: [0, 2, 3]},
    "body.layers.0.layers.0.bias": {0: [0, 1, 3]},
    "body.layers.0.layers.1.weight": {0: [0, 1, 3]},
    "body.layers.0.layers.1.bias": {0: [0, 1, 3]},
    "body.layers.0.layers.1.running_mean": {0: [0, 1, 3]},
    "body.layers.0.layers.1.running_var": {0: [0, 1, 3]},
    "head.weight": {1: [0, 1, 3]},
}
PLAIN = Spec(blocks=(Conv(norm="batch", act="sigmoid"),))


def test_a_right_prune_is_accepted():
    model, inputs = PLAIN.build()
    expected = zeroed(model, inputs, RIGHT)
    assert deviation(model(*inputs), expected) > 1e-3
    pruned, _ = PLAIN.build()
    assert_equal_outputs(expected, narrowed(pruned, RIGHT)(*inputs))


@pytest.mark.parametrize(
    ("path", "dim"),
    [(path, dim) for path, dims in RIGHT.items() for dim in dims if path != "source.layer.bias"],
)
def test_a_slice_off_by_one_is_rejected(path, dim):
    model, inputs = PLAIN.build()
    expected = zeroed(model, inputs, RIGHT)
    wrong = {**RIGHT, path: {**RIGHT[path], dim: [0, 1, 2]}}
    pruned, _ = PLAIN.build()
    got = narrowed(pruned, wrong)(*inputs)
    assert deviation(expected, got) > 1e-6
    with pytest.raises(AssertionError, match="outputs deviate by"):
        assert_equal_outputs(expected, got)


def test_a_narrowed_output_is_rejected():
    model, inputs = PLAIN.build()
    with pytest.raises(AssertionError, match="outputs have lost channels"):
        zeroed(model, inputs, {"head.weight": {0: [0, 1]}})


def test_keeping_everything_changes_nothing():
    spec = Spec(
        source=Source(second="class"),
        blocks=(blocks.Attention(), blocks.ConditionalNorm(), blocks.SqueezeExcite()),
    )
    model, inputs = spec.build()
    assert_equal_outputs(model(*inputs), zeroed(model, inputs, {}))


def test_query_channels_are_zeroed_where_they_meet_the_keys():
    spec = Spec(blocks=(blocks.Attention(inner=4),))
    kept = {
        f"body.layers.0.{name}.{leaf}": {0: [1, 3]}
        for name in ("query", "key")
        for leaf in ("weight", "bias")
    }
    model, inputs = spec.build()
    pruned, _ = spec.build()
    assert_equal_outputs(zeroed(model, inputs, kept), narrowed(pruned, kept)(*inputs))


def test_a_channel_of_a_pixel_shuffle_is_four_rows():
    spec = Spec(source=Source(out=2), blocks=(blocks.PixelShuffle(out=2),))
    rows = {f"body.layers.0.conv.{leaf}": {0: [4, 5, 6, 7]} for leaf in ("weight", "bias")}
    model, inputs = spec.build()
    pruned, _ = spec.build()
    pruned = narrowed(pruned, {**rows, "head.weight": {1: [1]}})
    assert_equal_outputs(zeroed(model, inputs, rows), pruned(*inputs))


def test_depthwise_channels_vanish_with_what_they_read():
    spec = Spec(blocks=(blocks.Separable(multiplier=2),))
    kept = {"source.layer.weight": {0: [0, 3]}, "source.layer.bias": {0: [0, 3]}}
    middle = {f"body.layers.0.layers.0.{leaf}": {0: [0, 1, 6, 7]} for leaf in ("weight", "bias")}
    last = {"body.layers.0.layers.1.weight": {1: [0, 1, 6, 7]}}
    model, inputs = spec.build()
    pruned, _ = spec.build()
    pruned = narrowed(pruned, {**kept, **middle, **last})
    pruned.body.layers[0].layers[0].groups = 2
    assert_equal_outputs(zeroed(model, inputs, {**kept, **middle}), pruned(*inputs))
