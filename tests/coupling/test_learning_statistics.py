"""A sum over weights goes on learning after channels are gone; what cannot is told as frozen."""

import copy

import pytest
import torch
from torch import nn

import gfx
from support.oracle import alike

X = torch.randn(2, 3, 6, 6, dtype=torch.float64)


class Codebook(nn.Module):
    """Distances to a codebook, whose squared norms are a sum over its channels."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(16, 3, 1)
        self.book = nn.Parameter(torch.randn(16, 8))

    def squares(self):
        return (self.book**2).sum(1)

    def forward(self, x):
        z = torch.relu(self.first(x)).permute(0, 2, 3, 1)
        near = 2 * z @ self.book.t() - self.squares()
        return self.last(torch.tanh(near).permute(0, 3, 1, 2))


class ByMethod(Codebook):
    def squares(self):
        return torch.sum(self.book.abs(), dim=-1, keepdim=False)


def steps(net, count=3):
    """Trains a copy; what a mask has zeroed stays out of it."""
    net = copy.deepcopy(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(count):
        optimizer.zero_grad()
        net(X).square().mean().backward()
        optimizer.step()
    return net


class Masked(nn.Module):
    """The original, with the removed channels zeroed where they are read and left as they were."""

    def __init__(self, net, kept):
        super().__init__()
        self.net = net
        self.stay = torch.zeros(8, dtype=torch.float64).index_fill(0, torch.tensor(kept), 1)
        self.fixed = net.book.detach().clone()

    def forward(self, x):
        net, stay = self.net, self.stay
        book = net.book * stay + self.fixed * (1 - stay)
        z = torch.relu(net.first(x)).permute(0, 2, 3, 1) * stay
        squares = (book**2 if type(net) is Codebook else book.abs()).sum(1)
        near = 2 * z @ book.t() - squares
        return net.last(torch.tanh(near).permute(0, 3, 1, 2))


@pytest.mark.parametrize("kind", [Codebook, ByMethod], ids=lambda kind: kind.__name__)
def test_a_sum_over_weights_goes_on_learning(kind):
    model = kind().double().eval()
    recipe = {"passes": [{"channel_prune": {"ratios": {"first": 0.5}}}]}
    small = gfx.apply(recipe, model, X)
    kept = gfx.report(small).passes[0].details["kept"]["first"]
    assert len(kept) == 4
    masked = Masked(copy.deepcopy(model), kept)
    assert alike(small(X), masked(X))
    assert alike(steps(small)(X), steps(masked)(X))
    assert "frozen" not in str(gfx.report(small))
