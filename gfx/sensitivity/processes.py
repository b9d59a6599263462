"""Shares the probes of a table out among processes (torchrun, accelerate launch).

Every process runs the program itself, probes its share, and gets the results of all: a probe's
figures depend on nothing but the probe, so the table is that of a single process, bit for bit.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isclose
from typing import Any, TypeVar

from gfx.errors import GfxError, InputError

__all__ = ["Processes", "processes"]

P = TypeVar("P")
_ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Processes:
    """Joins the processes that work on one table; this one is number `rank` of `count`."""

    rank: int = 0
    count: int = 1
    group: Any = None  # of torch.distributed, on the CPU

    def share(
        self, work: Callable[[Sequence[P]], tuple[dict[Any, Any], float]], items: Sequence[P]
    ) -> dict[Any, Any]:
        """Works on this process's share of the items; returns the results of all processes.

        `work` also returns a number that must be equal in all processes up to rounding: it shows
        whether they have the same model and data.

        Raises: GfxError that any process met, in all of them; InputError if the numbers differ.
        """
        if self.count == 1:
            return work(items)[0]
        mine: Any
        try:
            mine = (*work(items[self.rank :: self.count]), len(items))
        except GfxError as error:
            mine = error
        every = self._gathered(mine)
        failed = [each for each in every if isinstance(each, GfxError)]
        if failed:
            raise failed[0]
        marks = [(mark, count) for _, mark, count in every]
        if any(c != marks[0][1] or not isclose(m, marks[0][0], rel_tol=1e-5) for m, c in marks):
            raise InputError(
                f"the {self.count} processes do not inspect the same: their models or their data "
                "differ; seed the model's weights, and give every process the same batches"
            )
        found: dict[Any, Any] = {}
        for results, _, _ in every:
            found |= results
        return found

    def _gathered(self, mine: Any) -> list[Any]:
        import torch.distributed as dist

        every: list[Any] = [None] * self.count
        dist.all_gather_object(every, mine, group=self.group)
        return every


@contextmanager
def processes() -> Iterator[Processes]:
    """Finds the processes that started together, and connects them (gloo) for the with block.

    An existing process group is used; a new one is destroyed afterwards. Without `RANK`,
    `WORLD_SIZE`, `MASTER_ADDR` and `MASTER_PORT` in the environment there is one process.
    """
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        own = dist.get_backend() != "gloo"
        group = dist.new_group(backend="gloo") if own else None
        try:
            yield Processes(dist.get_rank(), dist.get_world_size(), group)
        finally:
            if own:
                dist.destroy_process_group(group)
        return
    started = all(name in os.environ for name in _ENVIRONMENT)
    if not (started and dist.is_available() and int(os.environ["WORLD_SIZE"]) > 1):
        yield Processes()
        return
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, rank, count = next(rendezvous("env://"))
    # keys of its own: those of an earlier group would lead to addresses where no process listens
    turn = store.add(f"gfx/{rank}", 1)
    keys = PrefixStore(f"gfx/{turn}", store)
    dist.init_process_group("gloo", store=keys, rank=rank, world_size=count)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
