"""What a supernet hands out is the same in every mode of the caller."""

import pytest
import torch
from test_ambient_modes import MODES
from torch import nn

import gfx

X = torch.linspace(-1, 1, 2 * 3 * 64).view(2, 3, 8, 8)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.block, self.tail = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        x = torch.relu(self.norm(self.head(x)))
        return self.tail(x + self.block(x))


def handed_out(model):
    net = gfx.supernet(model, X, widths=[0.5, 1.0], forms="separable", skip=True)
    kept = {name: "kept" for name, options in net.options.items() if "kept" in options}
    assert kept
    some = {**net.smallest(), **kept}
    net.calibrate([X], batches=1)
    net.set(some)
    net.calibrate([X], batches=1)
    return net, net.extract(some), net.cost(some)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("mode", MODES)
def test_a_supernet_is_the_same_in_every_mode(mode):
    model = Residual().eval()
    _, wanted, price = handed_out(model)
    with MODES[mode]():
        net, small, cost = handed_out(model)
    assert cost == price
    for name, value in wanted.state_dict().items():
        assert torch.equal(small.state_dict()[name], value), name
    for one in (small, net):  # they learn
        one(X).mean().backward()
        assert one.tail.weight.grad is not None
