"""Tells whether the worker of a search that made a claim is still alive.

On the same machine its process is looked for; of another machine it counts as dead when its last
sign of life is too old.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["SILENT", "WorkerName", "signs_of_life"]

SILENT = 120.0  # seconds without a sign, after which a worker elsewhere is dead
_EVERY = 20.0  # seconds between signs


@dataclass(frozen=True)
class WorkerName:
    """Names one worker: its machine, its process, when that began, and itself.

    Example:
        >>> WorkerName.own().alive(time.time())
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
        return WorkerName(socket.gethostname(), process, _began(process), uuid.uuid4().hex[:8])

    @staticmethod
    def read(data: Any) -> "WorkerName":
        """Reads what `vars` wrote."""
        return WorkerName(**data)

    def alive(self, sign: float) -> bool:
        """Tells whether the worker lives; `sign` is the time of its last sign."""
        if self.host == socket.gethostname():
            return _began(self.process) == self.began != ""
        return time.time() - sign < SILENT


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
