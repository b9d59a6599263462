"""Runs the laws on new random generators until a time is over, and counts what was tried.

`make laws MINUTES=30` sets GFX_MINUTES. Each law then draws examples for its share of the time, in
proportion to how many it tries otherwise, from a seed that follows from the run's seed and the
law's name. A law whose share is over ends as skipped; one that failed still shrinks its example.
"""

import functools
import os
import signal
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import core
from hypothesis.errors import UnsatisfiedAssumption
from hypothesis.internal.conjecture import engine

from support.blocks import Block, Spec

__all__ = ["MINUTES", "timed"]

MINUTES = float(os.environ.get("GFX_MINUTES", "0"))  # 0: as many examples as the profile says
# workers inherit it from the process that starts them
END = float(os.environ.setdefault("GFX_LAWS_END", str(time.time() + 60 * MINUTES)))
_OVER = "its share of the time is over"
_SHRINKING = 30  # seconds more than its share that a law may take; hypothesis shrinks for 300
_OFTEN = 8  # examples of a law that is stated inside a test


@dataclass
class _Turn:
    """What the law that runs now has tried."""

    until: float = float("inf")  # when its share of the time is over
    tried: int = 0  # examples that are a generator
    failed: str = ""  # how the latest example broke it: the smallest, while it shrinks
    over: bool = False


class _Stop(BaseException):
    """Ends a law that runs on after its time; hypothesis lets it pass."""


@dataclass
class _Plan:
    """How much of the work is done, in examples that each law would try otherwise."""

    seed: int = 0
    total: int = 0
    done: int = 0
    turn: _Turn = field(default_factory=_Turn)


_plan = _Plan()


def _stop(*_: object) -> None:
    _plan.turn.over = True  # hypothesis may raise another error in its place
    raise _Stop


def timed(test: Callable[..., None]) -> Callable[..., None]:
    """Counts the examples of a law, and ends it when its share of the time is over."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        turn, given = _plan.turn, (*args, *kwargs.values())
        if time.time() > turn.until and not turn.failed:
            turn.over = True
            pytest.skip(_OVER)
        try:
            test(*args, **kwargs)
        except UnsatisfiedAssumption:
            raise
        except Exception as error:  # what else passes is hypothesis' own, or pytest's
            turn.failed = f"{type(error).__name__}: {error}\nwith {given!r}"
            raise
        turn.tried += any(isinstance(value, Spec | Block) for value in given)

    return run


def _share(item: pytest.Item) -> int:
    """Returns how many examples a test tries otherwise; 0 if it states no law."""
    function = getattr(item, "function", None)
    if hasattr(function, "share"):
        return int(function.share)
    code = getattr(function, "__code__", None)
    return _OFTEN if code is not None and "law" in code.co_names else 0


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the laws alone to run, in an order of their own for each seed."""
    if not MINUTES:
        return
    seed = _plan.seed = int(config.getoption("hypothesis_seed") or 0)
    config.hook.pytest_deselected(items=[item for item in items if not _share(item)])
    items[:] = sorted(filter(_share, items), key=lambda item: _hash(seed, item))
    _plan.total = sum(map(_share, items))


def _hash(seed: int, item: pytest.Item) -> int:
    return zlib.crc32(f"{seed} {item.nodeid}".encode())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Gives a law its share of the time that is left, its seed, and its count to the report."""
    if not MINUTES:
        return (yield)
    share, now = _share(item), time.time()
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    left = max(share, _plan.total - workers * _plan.done)  # others are about as far
    turn = _plan.turn = _Turn(until=now + max(0.0, END - now) * min(1.0, workers * share / left))
    _plan.done += share
    core.global_force_seed = _hash(_plan.seed, item)
    engine.MAX_SHRINKING_SECONDS = _SHRINKING
    signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, max(0.0, turn.until - now) + _SHRINKING)
    try:
        return (yield)
    except _Stop:
        if turn.failed:
            pytest.fail(f"{turn.failed}\nand the time was over before it had shrunk", False)
        pytest.skip(f"one example takes longer than {_SHRINKING:.0f} seconds")
    except BaseException:
        if turn.over and not turn.failed:
            pytest.skip(_OVER)  # hypothesis calls it flaky that a law stops before it draws
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        item.user_properties.append(("generators", turn.tried))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Writes how many random generators were tried, and how many laws they broke."""
    if not MINUTES:
        return
    reports = [r for found in terminalreporter.stats.values() for r in found]
    calls = [dict(r.user_properties) for r in reports if getattr(r, "when", "") == "call"]
    counts = [call["generators"] for call in calls if "generators" in call]
    broken = len({r.nodeid for r in reports if getattr(r, "failed", False)})
    seed = terminalreporter.config.getoption("hypothesis_seed")
    terminalreporter.write_line(
        f"{sum(counts):,} random generators in {len(counts)} laws, seed {seed}, {broken} deviations"
    )
