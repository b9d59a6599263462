"""Finds the folder of what gfx keeps from one command to the next: nothing in it is needed."""

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder(kind: str, cache: str | os.PathLike[str] | None = None) -> Path:
    """Returns the folder of one kind of file: in the cache given, GFX_CACHE, or the user's cache.

    Example:
        >>> cache_folder("latency", "/tmp/mine").as_posix()
        '/tmp/mine/latency'
    """
    given = cache or os.environ.get("GFX_CACHE")
    if given:
        return Path(given) / kind
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "gfx" / kind
