"""A supernet under torch's own DistributedDataParallel trains as it does alone."""

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import gfx
from support.two_processes import in_two_processes

X = torch.linspace(-1, 1, 4 * 3 * 16 * 16).reshape(4, 3, 16, 16).sin().double()
STEPS = 4


def trained(rank: int, ranks: int) -> dict[str, torch.Tensor]:
    """Trains a few nets, one a step, on one process's share of the batch."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Tanh()]
    net = gfx.supernet(nn.Sequential(*layers, nn.Conv2d(8, 3, 1)).double(), X[:1])
    optimizer = torch.optim.Adam(net.parameters(), 1e-2, weight_decay=0.1)
    net.attach(optimizer)
    called = net if ranks == 1 else DistributedDataParallel(net)
    for step in range(STEPS):
        net.set(net.sample(seed=3, step=step))
        optimizer.zero_grad()
        called(X[rank::ranks]).square().mean().backward()
        optimizer.step()
    return net.state_dict()


def process(rank: int) -> dict[str, torch.Tensor]:
    """Trains in one of two processes."""
    return trained(rank, 2)


def test_two_processes_train_a_supernet_as_one_with_the_whole_batch(tmp_path):
    first, second = in_two_processes(process, tmp_path)
    alone = trained(0, 1)
    for name, value in alone.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, atol=1e-9, rtol=1e-7)
