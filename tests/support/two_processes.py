"""Runs a function in two processes that torch.distributed joins."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing as mp

__all__ = ["in_two_processes"]


def in_two_processes(work: Callable[[int], Any], folder: Path) -> list[Any]:
    """Returns what `work(rank)` returns in each of two processes; it is a function of a module.

    They are spawned: a fork of a process whose libraries hold locks in other threads may wait for
    ever.
    """
    mp.start_processes(_process, (work, str(folder)), nprocs=2, start_method="spawn")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def _process(rank: int, work: Callable[[int], Any], folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=2,
        timeout=timedelta(minutes=2),
    )
    torch.save(work(rank), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()
