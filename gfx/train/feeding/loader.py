"""Makes the batch of any step; what step t sees is a function of (task, seed, t) alone.

1. An epoch is a permutation of the examples by (seed, epoch); what does not fill a batch is left
   out, unless nothing does: then examples come again until the batch is full.
2. Process r of R takes its slice of the batch of all: R processes with batches of n see together
   what one with batches of R · n sees.
3. All that is random about an example, as a flip or its noise, comes from (seed, epoch, place in
   the epoch), and the streams of torch, numpy and Python stay as they are.
4. Threads make batches ahead, as many as `ahead` at a time; what one raises is raised at the step
   that it was for. A task that draws is read in the thread that asks: its streams are global.
"""

import random
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor

from gfx.errors import InputError
from gfx.train.tasks.task import Batch, Task

__all__ = ["Loader"]

_CACHE = 1 << 30
_AHEAD = 3  # batches for each worker


class Loader:
    """The batches of a task.

    Args:
        task: what the examples are.
        batch_size: examples on each device.
        seed: what orders and augments them.
        rank: the number of this process, from 0.
        ranks: how many processes share a batch.
        workers: threads that make batches ahead; 0 makes each when it is asked for.
        cache_bytes: decoded pictures that are kept at most.

    Example:
        >>> import torch
        >>> from gfx.train import tasks
        >>> loader = Loader(tasks.inputs(torch.arange(10.0)), batch_size=4)
        >>> loader.steps_per_epoch, len(loader.at(7))
        (2, 4)
    """

    def __init__(
        self,
        task: Task,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
        *,
        workers: int = 1,
        cache_bytes: int = _CACHE,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < ranks or workers < 0:
            raise InputError(
                f"batch_size={batch_size}, rank={rank} of {ranks}, workers={workers}: give a batch "
                "of at least 1, a rank below the number of ranks, and 0 workers or more"
            )
        self.task, self.batch_size, self.seed = task, batch_size, seed
        self.rank, self.ranks, self.workers = rank, ranks, workers
        self._orders: dict[int, list[int]] = {}
        task.keep_decoded(cache_bytes)

    @property
    def steps_per_epoch(self) -> int:
        """The number of steps that see every example at most once, and one at least (rule 1)."""
        return max(1, self.task.length // (self.batch_size * self.ranks))

    @property
    def about(self) -> tuple[str, ...]:
        """States what becomes of examples that do not fill a batch."""
        whole, length = self.batch_size * self.ranks, self.task.length
        if length < whole:
            return (f"{length} examples are fewer than a batch of {whole}: they come again in it",)
        rest = length % whole
        left = f"of {length} examples, {rest} do not fill a batch of {whole} and are left out of"
        return (f"{left} an epoch, others each time",) if rest else ()

    def at(self, step: int) -> Batch:
        """Returns the batch of a step, counted from 0.

        Raises: InputError that names the example, if one cannot be read.
        """
        epoch, place = divmod(step, self.steps_per_epoch)
        order = self._permutation(epoch)
        first = (place * self.ranks + self.rank) * self.batch_size
        examples = []
        for position in range(first, first + self.batch_size):
            dice = random.Random(f"{self.seed} {epoch} {position}")  # rule 3
            examples.append(self.task.example(order[position % len(order)], dice))
        return Batch.of(examples)

    def stream(self, start_step: int = 0) -> Generator[Batch]:
        """Iterates over the batches from a step on, without end (rule 4)."""
        if self.workers == 0 or self.task.draws:
            return self._each(start_step)
        return self._ahead(start_step)

    def _each(self, step: int) -> Generator[Batch]:
        while True:
            yield self.at(step)
            step += 1

    def _ahead(self, step: int) -> Generator[Batch]:
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="gfx batches")
        waiting: deque[Future[Batch]] = deque()
        try:
            while True:
                while len(waiting) < _AHEAD * self.workers:
                    waiting.append(pool.submit(self.at, step))
                    step += 1
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _permutation(self, epoch: int) -> list[int]:
        found = self._orders.get(epoch)
        if found is None:
            found = list(range(self.task.length))
            random.Random(f"{self.seed} {epoch}").shuffle(found)
            # two epochs: at their border, threads are in both
            last = {e: order for e, order in self._orders.items() if abs(e - epoch) == 1}
            self._orders = {**last, epoch: found}
        return found
