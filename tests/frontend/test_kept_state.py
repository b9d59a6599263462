"""A graph is one run: what a run keeps for the next, or decides by its mode, is refused or told."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gfx
from gfx.errors import TraceError
from support.oracle import alike

X = torch.rand(2, 3, 12, 12)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.kept = None

    def hidden(self, x):
        return torch.relu(self.first(x))

    def forward(self, x):
        return self.last(self.hidden(x))


class Before(Net):
    """Adds the image of the run before."""

    def forward(self, x):
        y = super().forward(x)
        if self.kept is not None:
            y = y + self.kept
        self.kept = y.detach()
        return y


class Calibrated(Net):
    """Scales as the first image asks."""

    def forward(self, x):
        if self.kept is None:
            self.kept = x.std()
        return super().forward(x) / self.kept


class Listed(Net):
    """Reads the first of all images so far."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def forward(self, x):
        self.kept.append(super().forward(x))
        return self.kept[0]


class Overwritten(Net):
    """Keeps a value that it always writes before it reads it."""

    def forward(self, x):
        self.kept = self.hidden(x)
        return self.last(self.kept)


class Branching(Net):
    def forward(self, x):
        return super().forward(x) * (2 if self.training else 1)


class Dropping(Net):
    def hidden(self, x):
        return F.dropout(super().hidden(x), 0.5, self.training)


class Frozen(Net):
    def hidden(self, x):
        self.norm.eval()
        return self.norm(super().hidden(x))


class Steady(Net):
    def forward(self, x):
        return super().forward(x) if self.training else self.last(self.hidden(x))


class Replaced(Net):
    """Has a layer whose forward was replaced."""

    def __init__(self):
        super().__init__()
        self.first.forward = torch.no_grad()(self.first.forward)


@pytest.mark.parametrize("kind", [Before, Calibrated, Listed])
def test_what_one_run_keeps_for_the_next_is_refused_by_name(kind):
    with pytest.raises(TraceError, match=r"what one run of forward keeps \(kept\) changes"):
        gfx.trace(kind().eval(), X)


def test_what_is_written_before_it_is_read_is_traced():
    model = Overwritten().eval()
    assert alike(gfx.trace(model, X).module(2 * X), model(2 * X))


@pytest.mark.parametrize("kind", [Branching, Dropping, Frozen])
def test_a_forward_that_goes_by_its_mode_is_told(kind):
    program = gfx.trace(kind().eval(), X)
    assert any("forward asks for its mode" in note for note in program.provenance.notes)
    assert not gfx.trace(Steady().eval(), X).provenance.notes


def test_a_comparison_in_training_mode_moves_no_statistics():
    model = Frozen().eval()
    assert alike(gfx.trace(model, X).module.eval()(X), model(X))


def test_a_layer_whose_forward_was_replaced_is_followed():
    model = Replaced().eval()
    small = gfx.apply({"passes": [{"channel_prune": {"ratios": {"first": 0.5}}}]}, model, X)
    assert small.first.weight.shape[0] == 4
    (2 * small(X)).sum().backward()
    assert small.first.weight.grad is None
    program = gfx.trace(model, X)
    with torch.no_grad():
        program.module.first.weight.zero_()
    assert not alike(program.module(X), model(X))


def test_gradient_hooks_of_parameters_are_named():
    model = Net().eval()
    model.first.weight.register_hook(lambda gradient: gradient * 0.1)
    notes = gfx.trace(model, X).provenance.notes
    assert [note for note in notes if "the gradient hook of first.weight" in note]
