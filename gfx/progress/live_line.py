"""Shows progress as one line: live on a terminal or in a notebook, else a plain line now and then.

On a terminal the line is drawn some times a second, whatever the number of reports. Elsewhere
nothing is written for work that takes less than a second.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TextIO, TypeVar

from gfx.errors import InputError
from gfx.progress.events import Progress, ProgressEvent, listening

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["LiveLine", "reported", "reporting"]

P = ParamSpec("P")
R = TypeVar("R")

_PATIENCE = 1.0  # seconds before the first plain line
_PAUSE = 10.0  # seconds between two plain lines
_FRAMES = 0.25  # seconds between two lines in a notebook
_BAR = 24  # characters


class LiveLine:
    """Shows the latest event on stderr; a listener, and a context manager around what reports."""

    def __init__(self, *, quiet: bool = False) -> None:
        from rich.console import Console

        self.event: ProgressEvent | None = None
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._show: Any = None

    def __call__(self, event: ProgressEvent) -> None:
        """Takes the latest event."""
        self.event = event
        if self._show is not None:
            self._show.update()

    def __enter__(self) -> "LiveLine":
        if self._quiet:
            return self
        if self._console.is_jupyter:
            self._show = _Notebook(self)
        elif self._console.is_terminal:
            self._show = _Terminal(self)
        else:
            self._show = _Plain(self, sys.stderr)
        self._show.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        show, self._show = self._show, None
        if show is not None:
            show.stop()


@contextmanager
def reporting(progress: Progress) -> Iterator[None]:
    """Reports what is done inside of the with block to what `progress` of a verb says.

    False adds no listener: one outside, such as the shell's line, goes on listening. True shows a
    line on stderr. A function is called with every event; one of three parameters, as version
    0.1.0 took, with the number done, the total, and the name of what is counted.

    Raises: InputError if it is none of them.

    Example:
        >>> from gfx.progress import stage
        >>> with reporting(lambda event: print(event.what)):
        ...     stage("tracing")
        tracing
    """
    if progress is False or progress is None:
        yield
    elif progress is True:
        with LiveLine() as line, listening(line):
            yield
    elif callable(progress):
        with listening(_of_three(progress) if _takes_three(progress) else progress):
            yield
    else:
        raise InputError(
            f"progress is {progress!r}; give True, or a function that is called with each event"
        )


def reported(verb: Callable[P, R]) -> Callable[P, R]:
    """Makes a function report to its keyword argument `progress`, as `reporting` says.

    Example:
        >>> from gfx.progress import each
        >>> @reported
        ... def total(numbers, *, progress=False):
        ...     return sum(each(numbers, "adding"))
        >>> total([3, 4], progress=lambda event: print(event.done))
        0
        1
        2
        7
    """

    @wraps(verb)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        progress: Any = kwargs.get("progress", False)
        with reporting(progress):
            return verb(*args, **kwargs)

    return wrapped


def _takes_three(function: Callable[..., object]) -> bool:
    import inspect

    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return False
    needed = [p for p in parameters if p.default is p.empty and p.kind != p.VAR_POSITIONAL]
    return len(needed) == 3 and all(p.kind != p.KEYWORD_ONLY for p in needed)


def _of_three(function: Callable[..., object]) -> Callable[[ProgressEvent], object]:
    def listener(event: ProgressEvent) -> None:
        if event.total and event.done:
            function(event.done, event.total, event.what)

    return listener


class _Terminal:
    """Draws a spinner, a bar and the event, some times a second."""

    def __init__(self, line: LiveLine) -> None:
        from rich.live import Live
        from rich.spinner import Spinner

        self._line, self._spinner = line, Spinner("dots")
        self._live = Live(
            console=line._console,
            get_renderable=self._drawn,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def start(self) -> None:
        self._live.start()

    def update(self) -> None:
        """Draws nothing: the line is drawn at its own pace."""

    def stop(self) -> None:
        self._live.stop()

    def _drawn(self) -> "Table":
        from rich.table import Table
        from rich.text import Text

        event = self._line.event or ProgressEvent("")
        # Text: a path may hold [brackets]
        text = Text(no_wrap=True, overflow="ellipsis")
        if event.total:
            full = _BAR * event.done // event.total
            text.append("━" * full).append("━" * (_BAR - full) + " ", style="dim")
        row = Table.grid(padding=(0, 1))
        row.add_row(self._spinner, text.append(str(event)))
        return row


class _Notebook:
    """Rewrites one output of a notebook's cell."""

    def __init__(self, line: LiveLine) -> None:
        from IPython.display import display  # type: ignore[import-not-found]

        self._line, self._last = line, 0.0
        self._handle = display({"text/plain": ""}, raw=True, display_id=True)

    def start(self) -> None:
        """Does nothing: the output is there."""

    def update(self) -> None:
        now = time.monotonic()
        if now - self._last >= _FRAMES:
            self._last = now
            self._handle.update({"text/plain": str(self._line.event)}, raw=True)

    def stop(self) -> None:
        self._handle.update({"text/plain": ""}, raw=True)


class _Plain:
    """Writes a line once work takes a second, and then every ten seconds."""

    def __init__(self, line: LiveLine, stream: TextIO) -> None:
        self._line, self._stream = line, stream
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def update(self) -> None:
        """Writes nothing: lines come at their own pace."""

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        pause = _PATIENCE
        while not self._ended.wait(pause):
            pause = _PAUSE
            if self._line.event is not None:
                self._stream.write(f"{self._line.event} …\n")
                self._stream.flush()
