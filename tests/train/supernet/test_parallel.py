"""A supernet under torch's own DistributedDataParallel trains as it does alone."""

from datetime import timedelta

import torch
from torch import multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import gfx

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


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=2,
        timeout=timedelta(minutes=2),
    )
    torch.save(trained(rank, 2), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_train_a_supernet_as_one_with_the_whole_batch(tmp_path):
    # spawned: a fork of a process whose libraries hold locks in other threads may wait for ever
    mp.start_processes(process, (str(tmp_path),), nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    alone = trained(0, 1)
    for name, value in alone.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, atol=1e-9, rtol=1e-7)
