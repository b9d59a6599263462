"""What the benchmarks keep between runs, and how they tell how far they are.

Rendered images and trained weights are kept in $GFX_BENCH_CACHE, else in gfx-bench in the user's
cache folder; nothing of it belongs in the repository. Delete the folder to make all of it anew.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["folder", "kept", "key", "progress"]

Item = TypeVar("Item")


def folder() -> Path:
    """Returns the folder that things are kept in; makes it if it is not there."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = Path(os.environ.get("GFX_BENCH_CACHE") or home / "gfx-bench")
    path.mkdir(parents=True, exist_ok=True)
    return path


def kept(name: str, make: Callable[[Path], object], read: Callable[[Path], Any]) -> Any:
    """Reads a file of the folder; makes it first if it is not there."""
    path = folder() / name
    if not path.exists():
        # a run that is stopped half way must not leave half a file
        unfinished = path.with_name(f"{os.getpid()}-{path.name}")
        make(unfinished)
        unfinished.rename(path)
    return read(path)


def key(facts: dict[str, Any]) -> str:
    """Returns a short name for all that a result follows from.

    Example:
        >>> key({"seed": 0}) == key({"seed": 0}), key({"seed": 0}) == key({"seed": 1})
        (True, False)
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def progress(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Yields the items, and tells on stderr how many are done."""
    start = time.monotonic()
    for number, item in enumerate(items):
        if 20 * number // len(items) > 20 * (number - 1) // len(items):
            told = f"{what}: {100 * number // len(items)} %, {time.monotonic() - start:.0f} s"
            print(told, file=sys.stderr, flush=True)
        yield item
