"""Ends the shell with one line when it is told to stop: SIGINT (Ctrl-C) or SIGTERM.

It imports nothing of weight, so that what takes long to import can be stopped too.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

__all__ = ["Stopped", "note_resumable", "note_written", "outcome", "stop_if_told", "stoppable"]

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_written: list[Path] = []  # outputs of the command that runs
_resumable: list[Path] = []  # where the same command goes on
_told: list[int] = []  # the signal that came: what is imported may have caught what it raised


class Stopped(BaseException):
    """A signal to stop; no Exception, so that nothing on the way takes it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def note_written(*paths: Path) -> None:
    """Notes outputs that have appeared; none: a command begins."""
    _written[:] = paths
    _resumable.clear()


def note_resumable(folder: Path) -> None:
    """Notes where the command that runs keeps what it has done."""
    _resumable[:] = [folder]


def outcome() -> str:
    """Says what was written so far.

    Example:
        >>> note_written()
        >>> outcome()
        'nothing was written'
    """
    if _written:
        return f"{', '.join(map(str, _written))} was written"
    if _resumable:
        return f"the same command goes on in {_resumable[0]}"
    return "nothing was written"


def stop_if_told() -> None:
    """Stops where a signal came and something on the way caught it, as an import that it cut off.

    Raises: Stopped.

    Example:
        >>> stop_if_told()
    """
    if _told:
        raise Stopped(_told[0])


@contextmanager
def stoppable() -> Iterator[None]:
    """Turns signals to stop into one line on stderr and an exit code of 128 and their number.

    A second signal ends the process at once. A signal after the last line of the command changes
    nothing: what was asked is done, and the process is about to end. What fails after a signal
    failed for it.
    """
    _told.clear()
    for number in _WORDS:
        signal.signal(number, _stop)
    try:
        try:
            yield
        finally:  # a signal in here is still told below
            for number in _WORDS:
                signal.signal(number, signal.SIG_IGN)
    except SystemExit as ended:
        if ended.code not in (None, 0):
            _end_if_told()
        raise
    except BaseException:
        _end_if_told()
        raise


def _end_if_told() -> None:
    """Ends the process with its line, if a signal came."""
    if _told:
        sys.stderr.write(f"error: {_WORDS[signal.Signals(_told[0])]}; {outcome()}\n")
        sys.stderr.flush()
        sys.exit(128 + _told[0])


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    for each in _WORDS:
        signal.signal(each, signal.SIG_DFL)
    _told.append(number)
    raise Stopped(number)
