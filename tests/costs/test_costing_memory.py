"""Memory of activations, counted by hand."""

from collections.abc import Iterator

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

import gfx
from gfx.costs import activation_memory
from gfx.ir.shapes.propagate import propagate
from support.programs import cost

X = torch.ones(1, 4, 8, 8)  # 1024 bytes


def test_a_chain_keeps_two_activations_alive():
    found = cost(nn.Sequential(nn.Tanh(), nn.Tanh(), nn.Tanh()), X)
    assert found.peak_activation_bytes == 2048
    assert [row.peak_activation_bytes for row in found.nodes] == [1024, 2048, 2048, 2048]


def test_a_skip_keeps_its_start_alive():
    class Skip(nn.Module):
        def forward(self, x):
            return x.tanh().tanh() + x

    assert cost(Skip(), X).peak_activation_bytes == 3072


def test_views_and_in_place_operations_take_no_memory():
    class Still(nn.Module):
        def forward(self, x):
            x = F.relu(x, inplace=True).view(4, 8, 8).permute(1, 2, 0)
            return x.add_(1)[1:].chunk(2)

    found = cost(Still(), X)
    assert found.peak_activation_bytes == 1024
    assert sum(row.activation_bytes for row in found.nodes) == 1024


def test_a_view_keeps_the_whole_memory_alive():
    class View(nn.Module):
        def forward(self, x):
            first = x.tanh()[:, :1]
            return first.cos() + first

    # cos: 1024 of tanh and 256 of its own; add: tanh, cos, and its own 256
    assert cost(View(), X).peak_activation_bytes == 2048
    assert [row.peak_activation_bytes for row in cost(View(), X).nodes][-2:] == [1280, 1536]


def test_weights_are_no_activations():
    found = cost(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1)), X)
    assert found.peak_activation_bytes == 2048

    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 1, 1))

        def forward(self, x):
            return x * self.weight.view(1, 4, 1, 1)

    assert cost(Weighted(), X).peak_activation_bytes == 2048


def test_every_output_lives_to_the_end():
    class Many(nn.Module):
        def forward(self, x):
            return x.tanh(), x.cos(), x.sin()

    assert cost(Many(), X).peak_activation_bytes == 4096


class Pieces(nn.Module):
    """Returns a list of many tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        pieces = self.last(torch.relu(self.first(x))).reshape(-1).unbind()
        return [pieces[i] for i in range(1200)]


def test_many_outputs_of_one_node_are_each_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = [0]
    pieces = activation_memory.memory_of

    def counted(node: fx.Node) -> Iterator[tuple[int, int]]:
        for piece in pieces(node):
            looked[0] += 1
            yield piece

    program = gfx.trace(Pieces().eval(), torch.rand(1, 3, 24, 24))
    propagate(program)
    monkeypatch.setattr(activation_memory, "memory_of", counted)
    activation_memory.measure(program)
    assert looked[0] < 4 * len(list(program.nodes()))
    small = gfx.apply(
        {"passes": [{"channel_prune": {"ratio": 0.5}}]}, program.module, program.example_inputs
    )
    assert len(small(torch.rand(1, 3, 24, 24))) == 1200
