"""A dimension that no layer reads as channels costs next to nothing, however long it is."""

import tracemalloc

import pytest
import torch
from hypothesis import given
from torch import nn

import gfx
from gfx.coupling import analyse
from gfx.coupling.labels import LONGEST
from support.laws import law, long_changes
from support.strategies import specs


class Long(nn.Module):
    """A convolution beside something long."""

    def __init__(self, held: nn.Module | torch.Tensor, read) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1)
        if isinstance(held, nn.Module):
            self.held = held
        else:
            self.held = nn.Parameter(held)
        self.read = read

    def forward(self, x):
        return self.out(self.read(self.conv(x), self.held))


def row_of(x, table):
    return x + table(torch.zeros(1, dtype=torch.long, device=x.device)).view(1, 8, 1, 1)


HELD = {
    "one entry": (lambda n: torch.zeros(n), lambda x, big: x * big[0]),
    "a sum": (lambda n: torch.zeros(n), lambda x, big: x * big.sum()),
    "what is made of it": (lambda n: torch.zeros(n), lambda x, big: x * (big + 1).relu()[3]),
    "a softmax": (lambda n: torch.zeros(n), lambda x, big: x * torch.softmax(big, 0)[0]),
    "sorted": (lambda n: torch.zeros(n), lambda x, big: x * torch.sort(big)[0][0]),
    "a piece": (lambda n: torch.zeros(n), lambda x, big: x + big[:64].view(1, 1, 8, 8)),
    "a row": (lambda n: torch.zeros(n // 2, 2), lambda x, big: x * big[3].sum()),
    "a long row": (lambda n: torch.zeros(2, n // 2), lambda x, big: x * big[1].mean()),
    "a table": (lambda n: nn.Embedding(n // 8, 8), row_of),
    "positions": (lambda n: torch.zeros(1, n // 8, 8), lambda x, big: x + big[:, 0, :, None, None]),
}


@pytest.mark.parametrize("name", HELD)
def test_what_no_layer_reads_as_channels_costs_next_to_nothing(name):
    make, read = HELD[name]
    wanted = None
    analyse(gfx.trace(nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 4, 4)))
    for count in (LONGEST * 16, LONGEST * 64):
        with torch.no_grad():
            program = gfx.trace(Long(make(count), read).eval(), torch.zeros(1, 3, 8, 8))
        tracemalloc.start()
        groups = analyse(program)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < count  # less than a byte for each entry
        found = [(g.name, g.size, g.free) for g in groups]
        assert ("conv", 8, True) in found
        wanted = wanted or found
        assert found == wanted


def test_a_long_sound_costs_next_to_nothing_either():
    model = nn.Sequential(nn.Conv1d(1, 8, 3, padding=1), nn.Conv1d(8, 1, 3, padding=1)).eval()
    program = gfx.trace(model, torch.zeros(1, 1, LONGEST * 16))
    tracemalloc.start()
    groups = analyse(program)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < LONGEST * 16
    assert [g.size for g in groups.free] == [8]


def test_what_layers_write_has_channels_however_many_there_are():
    count = LONGEST + 8
    model = nn.Sequential(nn.Linear(4, count), nn.ReLU(), nn.Linear(count, 2)).eval()
    program = gfx.trace(model, torch.zeros(1, 4))
    tracemalloc.start()
    groups = analyse(program)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [(g.name, g.size) for g in groups.free] == [("0", count)]
    assert peak < 500 * count


def test_what_written_layers_read_has_channels_however_many_there_are():
    count = LONGEST + 8

    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Parameter(torch.zeros(count, 4))
            self.down = nn.Parameter(torch.zeros(2, count))

        def forward(self, x):
            return nn.functional.linear(nn.functional.linear(x, self.up).relu(), self.down * 0.5)

    groups = analyse(gfx.trace(Written().eval(), torch.zeros(1, 4)))
    assert [(g.name, g.size) for g in groups.free] == [("up", count)]


@pytest.mark.parametrize("tied", [False, True])
def test_what_channels_meet_has_labels_however_long_it_is(tied):
    count = LONGEST + 8

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, count), nn.Linear(count, 2)
            self.gain = nn.Parameter(torch.ones(count))
            self.pack = self.gain if tied else nn.Parameter(torch.ones(count))

        def forward(self, x):
            x = self.first(x) * self.gain
            return self.last(x + self.pack.view(-1, 8).reshape(-1))

    program = gfx.trace(Flat().eval(), torch.zeros(1, 4))
    groups = analyse(program)
    assert [(g.name, g.free) for g in groups if g.size > 4] == [("first", True)]
    members = {m.tensor for m in groups["first"].members}
    assert members >= {"first.weight", "last.weight", "gain"}


@law(15, swept=40)
@given(specs(approximate=True))
def test_the_groups_do_not_depend_on_what_is_called_long(spec):
    assert not long_changes(gfx.trace(*spec.build()))
