"""Tells whether the worker of a search that made a claim is still alive.

1. On the same machine, and where processes have the same numbers, its process is looked for.
2. A worker elsewhere counts as dead when no new sign of it came for a while, by the clock of the
   one who watches: clocks of machines differ.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["SILENT", "Watch", "WorkerName", "signs_of_life"]

SILENT = 120.0  # seconds without a sign, after which a worker elsewhere is dead
_EVERY = 20.0  # seconds between signs


@dataclass(frozen=True)
class WorkerName:
    """Names one worker: its machine, its process, when that began, and itself.

    Example:
        >>> WorkerName.own().here
        True
    """

    host: str
    process: int
    began: str
    token: str

    @staticmethod
    def own() -> "WorkerName":
        """Names a worker of this process."""
        process = os.getpid()
        return WorkerName(_machine(), process, _began(process), uuid.uuid4().hex[:8])

    @property
    def here(self) -> bool:
        """Whether its process can be looked for (rule 1)."""
        return self.host == _machine()

    @property
    def runs(self) -> bool:
        """Whether its process is there, of a worker that is here."""
        return _began(self.process) == self.began != ""


class Watch:
    """Tells which workers are alive, by what it sees of them.

    Example:
        >>> watch = Watch(clock=iter([0.0, 100.0, 200.0, 250.0]).__next__)
        >>> far = WorkerName("elsewhere", 7, "", "a")
        >>> [watch.alive(far, "a claim", sign) for sign in (3, 3, 4, 4)]
        [True, True, True, True]
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[float, float]] = {}  # of a claim: its sign, since when

    def alive(self, worker: WorkerName, claim: str, sign: float) -> bool:
        """Tells whether the worker that made a claim lives; `sign` is the claim's last one."""
        if worker.here:
            return worker.runs
        now = self._clock()
        known, since = self._seen.get(claim, (None, now))
        if known != sign:
            self._seen[claim] = sign, now
            return True
        return now - since < SILENT


@cache
def _machine() -> str:
    """Names the machine since it began to run, and the space of its processes' numbers."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # another kind of system
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8])
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return "/".join(parts)


def _began(process: int) -> str:
    """Returns when a process began; "" if it has ended."""
    stat = Path(f"/proc/{process}/stat")
    if not Path("/proc/self/stat").exists():  # another kind of system
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return ""
        except PermissionError:
            pass
        return "alive"
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]  # a zombie has ended


@contextmanager
def signs_of_life(give: Callable[[], None]) -> Iterator[None]:
    """Calls `give` again and again while something runs."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(_EVERY):
            give()

    thread = threading.Thread(target=run, daemon=True, name="gfx search")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
