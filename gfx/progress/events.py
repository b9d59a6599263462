"""Reports what a long operation does now, how far it is, and what is left: to one listener.

    with listening(print):
        for batch in each(batches, "ranking channels"):
            ...

prints `ranking channels: 1 of 8`, `ranking channels: 2 of 8, about 3 s left` and so on.

1. `stage` names what is done, `step` and `each` count it. Steps may be within steps.
2. Who listens is known to the context, not to the functions in between; without a listener a report
   costs next to nothing. An inner listener hears for an outer one: each report is heard once.
3. What is left is estimated from the share that is done and the time that it took.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TypeVar

__all__ = ["Listener", "Progress", "ProgressEvent", "each", "listening", "stage", "step"]

T = TypeVar("T")
Clock = Callable[[], float]  # returns seconds

_logger = logging.getLogger("gfx")


@dataclass(frozen=True)
class ProgressEvent:
    """Says what is done now, and how far it is.

    Example:
        >>> event = ProgressEvent("measuring convolutions", 30, 120, seconds=5.0)
        >>> event.left, str(event)
        (15.0, 'measuring convolutions: 30 of 120, about 15 s left')
    """

    what: str
    done: int = 0
    total: int = 0  # 0: it is not counted
    seconds: float = 0.0  # since it began
    within: tuple[str, ...] = ()  # the longer steps that it is part of, the longest first

    @property
    def left(self) -> float | None:
        """The seconds that are left of it, estimated; None while nothing is known."""
        if not 0 < self.done <= self.total:
            return None
        return self.seconds * (self.total - self.done) / self.done

    def __str__(self) -> str:
        counted = f": {self.done} of {self.total}" if self.total else ""
        left = self.left
        said = f", about {_duration(left)} left" if left is not None and left >= 1 else ""
        return " · ".join((*self.within, f"{self.what}{counted}{said}"))


Listener = Callable[[ProgressEvent], object]
Progress = bool | Listener  # True: a line on stderr; a function: it is called with each event


class _Told:
    """Holds who listens, and the steps that are under way, the outermost first."""

    def __init__(self, listener: Listener, clock: Clock) -> None:
        self.listener, self.clock = listener, clock
        self.open: list[tuple[ProgressEvent, float]] = []

    def tell(self, event: ProgressEvent, outer: int) -> None:
        """Tells the listener of an event within the `outer` outermost steps."""
        within = tuple(_counted(each) for each, _ in self.open[:outer])
        self.listener(replace(event, within=within))


_told: ContextVar[_Told | None] = ContextVar("gfx_progress", default=None)


@contextmanager
def listening(listener: Listener, clock: Clock = time.monotonic) -> Iterator[None]:
    """Calls a listener with every report of progress inside of the with block.

    What the listener raises ends the work.

    Example:
        >>> with listening(lambda event: print(event)):
        ...     stage("opening a file")
        opening a file
    """
    token = _told.set(_Told(listener, clock))
    try:
        yield
    finally:
        _told.reset(token)


def stage(what: str) -> None:
    """Reports what is done from now on; it is not counted."""
    _logger.info("%s", what)
    told = _told.get()
    if told is not None:
        told.tell(ProgressEvent(what), len(told.open))


class CountedStep:
    """Counts one step; `step` makes it."""

    def __init__(self, told: _Told | None) -> None:
        self._told = told
        self._place = -1 if told is None else len(told.open) - 1

    def advance(self, count: int = 1, what: str | None = None) -> None:
        """Reports that `count` more are done; `what` says it in other words from now on."""
        if self._told is None:
            return
        event, start = self._told.open[self._place]
        seconds = self._told.clock() - start
        done = min(event.done + count, event.total) if event.total else event.done + count
        event = replace(event, what=what or event.what, done=done, seconds=seconds)
        self._told.open[self._place] = (event, start)
        self._told.tell(event, self._place)


@contextmanager
def step(what: str, total: int = 0) -> Iterator[CountedStep]:
    """Reports a step that counts up to `total`; 0: how many there will be is not known.

    Example:
        >>> with listening(lambda event: print(event), clock=iter(range(9)).__next__):
        ...     with step("measuring", 3) as counted:
        ...         counted.advance()
        measuring: 0 of 3
        measuring: 1 of 3, about 2 s left
    """
    told = _told.get()
    if told is None:
        yield CountedStep(None)
        return
    event = ProgressEvent(what, total=total)
    told.open.append((event, told.clock()))
    place = len(told.open)
    try:
        told.tell(event, place - 1)
        yield CountedStep(told)
    finally:
        del told.open[place - 1 :]  # inner steps too, if one was left open


def each(items: Sequence[T], what: str) -> Iterator[T]:
    """Iterates over items and reports how many are done.

    Example:
        >>> with listening(lambda event: print(event)):
        ...     total = sum(each([3, 4], "adding"))
        adding: 0 of 2
        adding: 1 of 2
        adding: 2 of 2
    """
    with step(what, len(items)) as counted:
        for item in items:
            yield item
            counted.advance()


def _counted(event: ProgressEvent) -> str:
    if not event.total:
        return event.what
    return f"{event.what} {min(event.done + 1, event.total)}/{event.total}"


def _duration(seconds: float) -> str:
    """Writes a duration: seconds, or minutes from two on."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
