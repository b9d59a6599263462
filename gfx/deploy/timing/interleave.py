"""Times several actions side by side, so that load on the machine affects all of them alike.

1. All are warmed up first, one after the other.
2. A round runs each once. Which goes first, and which after which, changes from round to round:
   over an even number of rounds two actions are first equally often, and a slow drift of the
   machine cancels.
3. Garbage is collected between rounds, and never during a timed call.
"""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from gfx.deploy.timing.timing_samples import TimingSample
from gfx.errors import InputError
from gfx.progress import each

__all__ = ["Clock", "gc_frozen", "interleaved", "medians", "seconds"]

Action = Callable[[], object]
Clock = Callable[[], float]  # returns the time in seconds


def seconds(action: Action, *, clock: Clock = time.perf_counter) -> float:
    """Times one call; garbage of earlier calls is collected before.

    Units: seconds.

    Example:
        >>> ticks = iter([10.0, 12.5])
        >>> seconds(lambda: None, clock=lambda: next(ticks))
        2.5
    """
    with _no_garbage():
        return _timed(action, clock)


def interleaved(
    runners: Sequence[Action],
    *,
    rounds: int,
    warmups: int = 1,
    clock: Clock = time.perf_counter,
) -> list[TimingSample]:
    """Times each runner once a round, in an order that alternates; one sample for each.

    Each is called `warmups` times before, that is `warmups + rounds` times in all.

    Units: seconds.

    Raises: InputError if rounds is below 1 or warmups below 0.

    Example:
        >>> ticks = iter([0.0, 1.0, 1.0, 3.0, 3.0, 5.0, 5.0, 6.0])
        >>> samples = interleaved([int, str], rounds=2, warmups=0, clock=lambda: next(ticks))
        >>> [sample.times.tolist() for sample in samples]
        [[1.0, 1.0], [2.0, 2.0]]
    """
    if rounds < 1 or warmups < 0:
        raise InputError(f"rounds={rounds} and warmups={warmups}: give rounds ≥ 1 and warmups ≥ 0")
    for runner in runners:
        for _ in range(warmups):
            runner()
    times = np.zeros((len(runners), rounds))
    with gc_frozen():
        for done in each(range(rounds), "timing rounds"):
            with _no_garbage():
                for index in _order(len(runners), done):
                    times[index, done] = _timed(runners[index], clock)
    return [TimingSample(row) for row in times]


def medians(actions: Sequence[Action], rounds: int) -> list[float]:
    """Times actions side by side, after one round to warm up, and returns the medians.

    Units: seconds.

    Example: `before, after = medians([original, compiled], rounds=5)`.
    """
    return [sample.median for sample in interleaved(actions, rounds=rounds)]


def _order(count: int, done: int) -> list[int]:
    """Returns the order of a round (rule 2): rotated every second round, every other reversed.

    For two: 01 10 10 01, and again.
    """
    start = done // 2 % max(count, 1)
    order = [(start + index) % count for index in range(count)]
    return order[::-1] if done % 2 else order


def _timed(action: Action, clock: Clock) -> float:
    start = clock()
    action()
    return clock() - start


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Collects garbage, and suspends collection inside the with block."""
    gc.collect()
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@contextmanager
def gc_frozen() -> Iterator[None]:
    """Excludes existing objects from garbage collection, which would otherwise take long.

    Example: `with gc_frozen(): ...` around a loop that is timed.
    """
    gc.collect()
    mine = gc.get_freeze_count() == 0  # else the user froze objects, and unfreezing would undo it
    if mine:
        gc.freeze()
    try:
        yield
    finally:
        if mine:
            gc.unfreeze()
