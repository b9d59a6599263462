"""Memory of activations, counted by hand."""

import torch
from torch import nn
from torch.nn import functional as F

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
