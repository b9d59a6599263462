"""A layer whose hook gives back anything costs what the layer itself computes."""

import pytest
import torch
from torch import fx, nn
from torch.nn.utils import prune

from gfx import Program
from gfx.costs.count import cost_of

LAYERS = {
    "conv": nn.Conv2d(3, 4, 1),
    "transposed": nn.ConvTranspose2d(3, 4, 2, 2),
    "instance norm": nn.InstanceNorm2d(3),
    "batch norm": nn.BatchNorm2d(3),
    "linear": nn.Linear(8, 4),
    "relu": nn.ReLU(),
    "upsample": nn.Upsample(scale_factor=2),
    "shuffle": nn.PixelShuffle(1),
}
OUTPUTS = ({"a": 1}, "text", None, 3, (), [], ("a", 2), (torch.ones(1),), {"a": torch.ones(2)})
IMAGE = torch.zeros(1, 3, 8, 8)


class Host(nn.Module):
    """Calls a layer and leaves its output."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.other = layer, nn.Conv2d(3, 2, 1)

    def forward(self, x):
        self.layer(x)
        return self.other(x)


def traced(layer) -> Program:
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.call_module("layer", (x,))
    graph.output(graph.call_module("other", (x,)))
    return Program(fx.GraphModule(Host(layer).eval(), graph), (IMAGE,))


@pytest.mark.parametrize("output", OUTPUTS, ids=repr)
@pytest.mark.parametrize("name", LAYERS)
def test_what_a_hook_gives_back_does_not_count(name, output):
    plain = cost_of(traced(LAYERS[name]))
    layer = LAYERS[name]
    handle = layer.register_forward_hook(lambda module, args, out: output)
    try:
        hooked = cost_of(traced(layer))
    finally:
        handle.remove()
    assert hooked.macs == plain.macs
    assert hooked.params == plain.params


def test_what_a_hook_hands_in_counts():
    layer = nn.ConvTranspose2d(3, 4, 2, 2)
    plain = cost_of(traced(layer)).nodes[1].macs.exact
    layer.register_forward_pre_hook(lambda module, args: (args[0][..., :4, :4],))
    assert cost_of(traced(layer)).nodes[1].macs.exact == plain // 4


@pytest.mark.parametrize(
    "wrap", [nn.utils.spectral_norm, lambda layer: prune.identity(layer, "weight")]
)
def test_a_hook_that_sets_the_weight_leaves_the_count(wrap):
    plain, layer = cost_of(traced(nn.Conv2d(3, 4, 1))), nn.Conv2d(3, 4, 1)
    wrap(layer)
    assert cost_of(traced(layer)).macs == plain.macs
