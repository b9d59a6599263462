"""Weights that a forward centres and then divides by a norm go on learning, or are told frozen."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gfx

X = torch.rand(2, 3, 8, 8, dtype=torch.float64)
DIMS = (1, 2, 3)


def centred(weight):
    return weight - weight.mean(DIMS, keepdim=True)


def by_std(weight):
    weight = centred(weight)
    return weight / (weight.std(DIMS, keepdim=True) + 1e-5)


def by_root_of_sum(weight):
    weight = centred(weight)
    return weight / torch.sqrt((weight**2).sum(DIMS, keepdim=True) + 1e-8)


def by_flat_norm(weight):
    weight = centred(weight)
    return weight / weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def centred_twice(weight):
    return centred(weight) / torch.linalg.vector_norm(centred(weight), dim=DIMS, keepdim=True)


def centred_twice_by_squares(weight):
    return centred(weight) * torch.rsqrt(centred(weight).square().mean(DIMS, keepdim=True) + 1e-8)


def centred_halfway_twice(weight):
    def away(weight):
        return weight - 0.5 * weight.mean(DIMS, keepdim=True)

    return away(weight) / away(weight).square().sum(DIMS, keepdim=True).sqrt()


def by_largest(weight):
    weight = centred(weight)
    return weight / weight.abs().amax(DIMS, keepdim=True)


def normalised(weight):
    flat = weight.flatten(1)
    return F.normalize(flat - flat.mean(1, keepdim=True), dim=1).view_as(weight)


LEARNS = (
    *(by_std, by_root_of_sum, by_flat_norm, centred_twice, centred_twice_by_squares),
    centred_halfway_twice,
)
FREEZES = (by_largest, normalised)


class Standardised(nn.Module):
    def __init__(self, change):
        super().__init__()
        torch.manual_seed(0)
        self.change = change
        self.first, self.body = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        x = torch.relu(self.first(x))
        weight = self.change(self.body.weight)
        return self.last(torch.relu(F.conv2d(x, weight, self.body.bias, padding=1)))


class Masked(nn.Module):
    """The original, where removed channels are zero when read, and their weights stay as they are.

    `kept` are the channels of `first` and of `body` that stay.
    """

    def __init__(self, net, kept):
        super().__init__()
        self.net = net
        self.first, self.body = (
            torch.zeros(8, 1, 1).double().index_fill(0, torch.tensor(stay), 1) for stay in kept
        )
        self.stay = self.body[:, None] * self.first
        self.fixed = net.body.weight.detach().clone()

    def forward(self, x):
        net = self.net
        x = torch.relu(net.first(x)) * self.first
        weight = net.change(net.body.weight * self.stay + self.fixed * (1 - self.stay))
        return net.last(torch.relu(F.conv2d(x, weight, net.body.bias, padding=1)) * self.body)


def trained(net):
    net = copy.deepcopy(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        net(X).square().mean().backward()
        optimizer.step()
    return net


@pytest.mark.parametrize("change", [*LEARNS, *FREEZES], ids=lambda change: change.__name__)
def test_a_centred_weight_stays_exact_and_learns_or_is_told_frozen(change):
    model = Standardised(change).double().eval()
    small = gfx.apply({"passes": [{"channel_prune": {"ratio": 0.5}}]}, model, X)
    report = gfx.report(small)
    kept = report.passes[0].details["kept"]
    masked = Masked(copy.deepcopy(model), [list(kept[name]) for name in ("first", "body")])
    torch.testing.assert_close(small(X), masked(X), atol=1e-12, rtol=1e-9)
    assert ("frozen" in str(report)) == (change in FREEZES)
    if change in LEARNS:
        torch.testing.assert_close(trained(small)(X), trained(masked)(X), atol=1e-12, rtol=1e-9)
