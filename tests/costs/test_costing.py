"""MACs against other counters and counts by hand, parameters, what a cost prints."""

import json
import math

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm

import gfx
from gfx import zoo
from gfx.costs import Macs, human
from support.programs import call, cost, counted_by_fvcore, counted_by_torch, function, zoo_cost
from support.strategies import specs

SMALL = {
    "resnet_9blocks": {"ngf": 4, "n_blocks": 2, "image_size": 32},
    "mobile_resnet_9blocks": {"ngf": 4, "image_size": 32},
    "unet_256": {"ngf": 4, "image_size": 256},
    "spade": {"ngf": 4, "hidden": 8, "height": 64, "width": 128, "spectral": False},
    "pix2pixhd_global": {"ngf": 4, "n_blocks": 2, "image_size": 32},
    "stargan": {"ngf": 4, "n_blocks": 2, "image_size": 16},
    "srresnet": {"ngf": 4, "n_blocks": 2, "image_size": 8},
    "dcgan": {"ngf": 4},
}


@pytest.mark.parametrize("name", SMALL)
def test_exact_macs_agree_with_fvcore_and_torch(name):
    model, inputs = (
        zoo.build(name, **SMALL[name]).eval(),
        zoo.example_inputs(name, **SMALL[name]),
    )
    ours = cost(model, *inputs).macs.exact
    assert ours == counted_by_torch(model, *inputs)
    assert ours == counted_by_fvcore(model, *inputs)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(specs())
def test_exact_macs_of_random_generators_agree_with_torch(spec):
    assume("sdpa" not in repr(spec))  # torch does not count its own fused attention
    model, inputs = spec.build()
    ours = gfx.cost(model, inputs)
    assert ours.macs.exact == counted_by_torch(model, *inputs)
    assert ours.macs.exact <= ours.macs.output <= ours.macs.output_norm
    assert ours.params == sum(p.numel() for p in model.parameters())
    assert ours.params == sum(row.params for row in ours.nodes)


@st.composite
def convs(draw):
    """Draws a convolution of any kind, as a module, and what it eats."""
    dims = draw(st.integers(1, 3))
    groups = draw(st.sampled_from((1, 2)))
    transposed = draw(st.booleans())
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{dims}d")
    channels = [groups * draw(st.integers(1, 3)) for _ in range(2)]
    options = {
        "kernel_size": tuple(draw(st.integers(1, 3)) for _ in range(dims)),
        "stride": draw(st.integers(1, 2)),
        "padding": draw(st.integers(0, 2)),
        "dilation": draw(st.integers(1, 2)),
        "bias": draw(st.booleans()),
    }
    size = [draw(st.integers(5, 7)) for _ in range(dims)]
    batch = draw(st.sampled_from(((1,), (2,), ())))
    return kind(*channels, groups=groups, **options), torch.ones(*batch, channels[0], *size)


@settings(max_examples=80, deadline=None)
@given(convs())
def test_convs_agree_with_torch_as_module_and_as_function(drawn):
    layer, x = drawn
    try:
        with torch.no_grad():
            out = layer(x)
    except RuntimeError:  # padding ate the whole output
        assume(False)
    found = cost(nn.Sequential(layer), x)
    assert found.macs.exact == counted_by_torch(layer, x)
    each = math.prod(layer.weight.shape[1:])
    if layer.transposed:
        share = out.numel() // layer.out_channels * layer.in_channels
        assert found.macs.output == share * each
    else:
        assert found.macs.output == found.macs.exact == out.numel() * each
    name = f"conv{'_transpose' if layer.transposed else ''}{len(layer.kernel_size)}d"
    keys = ["stride", "padding", "dilation", "groups"]
    options = {key: getattr(layer, key) for key in keys}
    direct = function(getattr(F, name), x, layer.weight.detach(), **options)
    assert direct.macs == found.macs
    assert direct.params == 0


def test_aten_convolution_counts_like_the_module():
    x, weight = torch.ones(2, 4, 5, 5), torch.ones(4, 3, 4, 4)

    def convolution(graph, x, weight):
        rest = (None, [2, 2], [1, 1], [1, 1], True, [0, 0], 2)
        return graph.call_function(torch.ops.aten.convolution.default, (x, weight, *rest))

    layer = nn.ConvTranspose2d(4, 6, 4, 2, 1, groups=2, bias=False)
    assert call(convolution, x, weight).macs == cost(nn.Sequential(layer), x).macs


@pytest.mark.parametrize("norm", [spectral_norm, parametrizations.spectral_norm])
def test_spectral_norm_counts_as_the_conv_it_is(norm):
    x = torch.ones(1, 3, 8, 8)
    plain = cost(nn.Sequential(nn.Conv2d(3, 4, 3)), x)
    normed = cost(nn.Sequential(norm(nn.Conv2d(3, 4, 3))), x)
    assert normed.macs == plain.macs
    assert normed.params == plain.params  # the vectors u and v are buffers
    assert normed.nodes[1].kind == "Conv2d"


def test_a_module_called_twice_counts_its_parameters_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            return self.conv(self.conv(x)) + self.conv.weight.sum()

    found = cost(Twice(), torch.ones(1, 4, 8, 8))
    assert found.macs.exact == 2 * 64 * 4 * 4 * 9
    assert found.params == 148
    assert [row.params for row in found.nodes if row.params] == [148]


def test_two_modules_that_share_a_weight_count_it_once():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    assert cost(model, torch.ones(1, 4)).params == 16


def test_parameters_read_directly_are_counted_where_they_are_first_read():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(5, dtype=torch.float64))
            self.register_buffer("shift", torch.ones(5))

        def forward(self, x):
            return x * self.gain + self.gain + self.shift

    found = cost(Scale(), torch.ones(2, 5))
    assert (found.params, found.param_bytes) == (5, 40)
    assert [(row.node, row.params) for row in found.nodes if row.params] == [("gain", 5)]


def test_parameter_bytes_follow_the_dtype():
    model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False))
    for dtype, size in ((torch.float64, 96), (torch.float32, 48), (torch.bfloat16, 24)):
        assert cost(model.to(dtype), torch.ones(1, 3, 2, 2, dtype=dtype)).param_bytes == size


def test_everything_scales_with_the_batch_but_the_parameters():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4), nn.ConvTranspose2d(4, 2, 2, 2))
    one, four = (cost(model, torch.ones(n, 3, 8, 8)) for n in (1, 4))
    assert four.macs == one.macs + one.macs + one.macs + one.macs
    assert four.peak_activation_bytes == 4 * one.peak_activation_bytes
    assert four.params == one.params


def test_nodes_add_up_and_name_what_they_are():
    found = zoo_cost("dcgan", ngf=4)
    assert sum((row.macs for row in found.nodes), Macs()) == found.macs
    assert sum(row.param_bytes for row in found.nodes) == found.param_bytes
    assert max(row.peak_activation_bytes for row in found.nodes) == found.peak_activation_bytes
    assert found.nodes[0].kind == "placeholder"
    assert {"ConvTranspose2d", "BatchNorm2d"} <= {row.kind for row in found.nodes}
    assert found.nodes[-1].shape == (1, 3, 64, 64)


def test_a_cost_is_plain_data():
    found = cost(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.ones(1, 3, 8, 8))
    data = json.loads(json.dumps(found.to_dict()))
    assert data == found.to_dict()
    assert data["macs"] == {"exact": 3888, "output": 3888, "output_norm": 3888}
    assert data["nodes"][1]["shape"] == [1, 4, 6, 6]


def test_a_cost_prints_its_totals():
    assert str(zoo_cost("resnet_9blocks")).splitlines() == [
        "MACs exact             49.55 G",
        "MACs output            56.80 G",
        "MACs output+norm       56.83 G",
        "parameters             11.38 M",
        "parameter memory      45.51 MB",
        "peak activations      34.35 MB",
    ]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (0.5, "0.5"),
        (999, "999"),
        (1000, "1.00 K"),
        (999_999, "1.00 M"),
        (2_546_204_672, "2.55 G"),
        (5e12, "5.00 T"),
        (5e15, "5000.00 T"),
        (-1500, "-1.50 K"),
    ],
)
def test_numbers_print_with_two_decimals(number, text):
    assert human(number) == text
