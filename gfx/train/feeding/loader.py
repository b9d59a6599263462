"""Makes the batch of any step; what step t sees is a function of (task, seed, t) alone.

1. An epoch is a permutation of the examples by (seed, epoch); what does not fill a batch is left
   out, unless nothing does: then examples come again until the batch is full.
2. Process r of R takes its slice of the batch of all: R processes with batches of n see together
   what one with batches of R · n sees.
3. All that is random about an example, as a flip, comes from (seed, epoch, place in the epoch).
4. A thread makes batches ahead; what it raises is raised at the step that it was for.
"""

import queue
import random
import threading
from collections.abc import Iterator

from gfx.train.tasks.task import Batch, Task

__all__ = ["Loader"]

_AHEAD = 4  # batches


class Loader:
    """The batches of a task.

    `batch` is the number of examples on each device.
    """

    def __init__(
        self, task: Task, batch: int, seed: int = 0, rank: int = 0, ranks: int = 1
    ) -> None:
        self.task, self.batch, self.seed = task, batch, seed
        self.rank, self.ranks = rank, ranks
        self._epoch: tuple[int, list[int]] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """The number of steps that see every example once (rule 1)."""
        return max(1, self.task.length // (self.batch * self.ranks))

    def at(self, step: int) -> Batch:
        """Returns the batch of a step, counted from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = self._order(epoch)
        first = (place * self.ranks + self.rank) * self.batch
        examples = []
        for position in range(first, first + self.batch):
            dice = random.Random(f"{self.seed} {epoch} {position}")  # rule 3
            examples.append(self.task.example(order[position % len(order)], dice))
        return Batch.of(examples)

    def stream(self, start: int = 0) -> Iterator[Batch]:
        """Iterates over the batches from a step on, made ahead by a thread (rule 4)."""
        made: queue.Queue[Batch | BaseException] = queue.Queue(_AHEAD)
        stopped = threading.Event()

        def work() -> None:
            step = start
            while not stopped.is_set():
                try:
                    item: Batch | BaseException = self.at(step)
                except BaseException as error:
                    item = error
                while not stopped.is_set():
                    try:
                        made.put(item, timeout=0.1)
                        break
                    except queue.Full:
                        continue
                if isinstance(item, BaseException):
                    return
                step += 1

        worker = threading.Thread(target=work, name="gfx batches", daemon=True)
        worker.start()
        try:
            while True:
                item = made.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stopped.set()
            worker.join()

    def _order(self, epoch: int) -> list[int]:
        held = self._epoch
        if held is None or held[0] != epoch:
            order = list(range(self.task.length))
            random.Random(f"{self.seed} {epoch}").shuffle(order)
            held = self._epoch = (epoch, order)
        return held[1]
