"""The user's data, read again and again as batches of one size."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import gfx
from gfx.errors import InputError
from gfx.io.data import Stream, batches_of
from gfx.ir.program import Program


def program() -> Program:
    return gfx.trace(nn.Conv2d(3, 4, 3).eval(), torch.zeros(1, 3, 8, 8))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.conv(x) * y


class Pictures(Dataset):
    """A map-style dataset that does not say where it ends."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return torch.full((3, 8, 8), float(i)), i


def firsts(stream: Stream) -> list[list[float]]:
    return [inputs[0][:, 0, 0, 0].tolist() for inputs in stream]


def test_a_tensor_is_cut_into_batches():
    images = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 8, 8)
    assert firsts(Stream(program(), images, size=2)) == [[0, 1], [2, 3], [4]]


def test_single_examples_of_a_dataset_are_stacked_and_labels_dropped():
    assert firsts(Stream(program(), Pictures(), size=3)) == [[0, 1, 2], [3, 4]]


def test_a_dataset_that_does_not_say_where_it_ends_ends():
    assert len(batches_of(program(), Pictures(), 99)) == 5


def test_small_batches_are_joined_and_large_ones_cut():
    batches = [torch.zeros(3, 3, 8, 8), torch.ones(1, 3, 8, 8), torch.ones(5, 3, 8, 8)]
    assert [len(x) for (x,) in Stream(program(), batches, size=4)] == [4, 4, 1]


def test_batches_of_other_image_sizes_are_not_joined():
    batches = [torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 12, 12)]
    sizes = [tuple(x.shape) for (x,) in Stream(program(), batches, size=4)]
    assert sizes == [(2, 3, 8, 8), (2, 3, 12, 12)]


def test_no_more_examples_are_read_than_asked_for():
    def endless():
        while True:
            yield torch.zeros(4, 3, 8, 8)

    stream = Stream(program(), endless(), size=4, examples=6)
    assert [len(x) for (x,) in stream] == [4, 2]
    assert [len(x) for (x,) in stream] == [4, 2]


def test_a_loader_that_shuffles_gives_the_same_order_every_time():
    images = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 8, 8)
    loader = DataLoader(TensorDataset(images, torch.zeros(8)), batch_size=2, shuffle=True)
    stream = Stream(program(), loader, size=2)
    state = torch.get_rng_state()
    first = firsts(stream)
    torch.rand(3)
    assert firsts(stream) == first != [[0, 1], [2, 3], [4, 5], [6, 7]]
    torch.set_rng_state(state)


def test_reading_leaves_the_global_random_state():
    class Noise(Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, i: int) -> torch.Tensor:
            return torch.randn(3, 8, 8)

    net = program()
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    first, second = ([x for (x,) in Stream(net, Noise(), size=2)] for _ in range(2))
    assert torch.equal(torch.rand(2), wanted)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_inputs_that_share_no_first_dimension_stay_as_they_are():
    two = gfx.trace(Two().eval(), (torch.zeros(4, 3, 8, 8), torch.ones(1)))
    data = [(torch.zeros(4, 3, 8, 8), torch.ones(1))] * 2
    assert [len(x) for x, _ in Stream(two, data, size=2)] == [4, 4]


def test_no_data_is_an_error():
    with pytest.raises(InputError, match="data gives no batch"):
        list(Stream(program(), [], size=2))
