"""What the benchmarks share: interleaved medians."""

import gc
import time
from collections.abc import Callable, Sequence
from statistics import median

__all__ = ["interleaved", "seconds"]


def seconds(action: Callable[[], object]) -> float:
    """Times one call; garbage of earlier calls is collected before."""
    gc.collect()
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def interleaved(actions: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Times each action once a round, after one round to warm up, and returns the medians.

    Taking turns makes a busy moment of the machine hit all of them alike.
    """
    for action in actions:
        action()
    times = [[seconds(action) for action in actions] for _ in range(rounds)]
    return [median(column) for column in zip(*times, strict=True)]
