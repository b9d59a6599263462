"""Bounds the time that a search may take: when it is over, the best so far is the result.

    with time_limit(60) as deadline:
        while not out_of_time():
            ...                       # looks for something better
        stopped("the search for widths")
    print(deadline.notes)

1. Who must end is known to the context, as who listens to progress is: no function hands it on.
2. Work that others wait for gets a part of what is left (`part_of_time`), so that something is left
   for the search itself.
3. What is cut short says so (`stopped`); that is a note of the report. Without a limit nothing is
   ever out of time.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from gfx.errors import InputError

__all__ = ["Deadline", "current_deadline", "out_of_time", "part_of_time", "stopped", "time_limit"]

Clock = Callable[[], float]  # returns seconds


class Deadline:
    """Holds when the time is over, and who ended early because of it."""

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        self.seconds, self.clock = seconds, clock
        self.start = clock()
        self.end = self.start + seconds
        self.stopped: list[str] = []

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return self.clock() >= self.end

    @property
    def notes(self) -> tuple[str, ...]:
        """What was cut short, as a note of a report; empty if nothing was."""
        if not self.stopped:
            return ()
        what = "; ".join(dict.fromkeys(self.stopped))
        return (f"stopped after {self.seconds:g} s, with the best so far: {what}",)


_deadline: ContextVar[Deadline | None] = ContextVar("gfx_deadline", default=None)
_part: ContextVar[float | None] = ContextVar("gfx_part_of_time", default=None)  # when it is over


@contextmanager
def time_limit(seconds: float | None, clock: Clock = time.monotonic) -> Iterator[Deadline | None]:
    """Limits the time of the searches inside of the with block; None: no limit but an outer one.

    Raises: InputError if it is no positive number.

    Example:
        >>> with time_limit(5, clock=iter([0.0, 4.0, 6.0]).__next__):
        ...     out_of_time(), out_of_time()
        (False, True)
    """
    if seconds is None:
        yield _deadline.get()
        return
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds > 0:
        raise InputError(f"time={seconds!r} is no number of seconds; give one above 0, such as 60")
    deadline, outer = Deadline(seconds, clock), _deadline.get()
    if outer is not None and outer.clock is clock:  # whichever is over first
        deadline.end = min(deadline.end, outer.end)
    token, inner = _deadline.set(deadline), _part.set(None)
    try:
        yield deadline
    finally:
        _part.reset(inner)
        _deadline.reset(token)


@contextmanager
def part_of_time(share: float) -> Iterator[None]:
    """Leaves a share of the time that is left to the work inside of the with block (rule 2).

    Example:
        >>> with time_limit(10, clock=iter([0.0, 0.0, 4.0, 6.0]).__next__), part_of_time(0.5):
        ...     out_of_time(), out_of_time()
        (False, True)
    """
    deadline = _deadline.get()
    if deadline is None:
        yield
        return
    now, end = deadline.clock(), _part.get()
    end = deadline.end if end is None else end
    token = _part.set(now + share * max(end - now, 0.0))
    try:
        yield
    finally:
        _part.reset(token)


def current_deadline() -> Deadline | None:
    """Returns the deadline of the work at hand; None: its time is not limited."""
    return _deadline.get()


def out_of_time() -> bool:
    """Whether the work at hand must end: its time, or its part of it, is over."""
    deadline, end = _deadline.get(), _part.get()
    if deadline is None:
        return False
    return deadline.clock() >= (deadline.end if end is None else end)


def stopped(what: str) -> None:
    """Records that work ended early because the time was over (rule 3)."""
    deadline = _deadline.get()
    if deadline is not None:
        deadline.stopped.append(what)
