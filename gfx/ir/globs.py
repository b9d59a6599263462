"""Matches globs, as recipes write them, against module paths, node names and names of taps."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

__all__ = ["first_unmatched", "matches", "named_by"]


def matches(paths: str | Iterable[str], globs: str | Iterable[str]) -> bool:
    """Whether any of some globs names a path, or one of several paths.

    Upper and lower case differ on every system.

    Example:
        >>> matches("blocks.0.conv", ("blocks.*", "head"))
        True
        >>> matches(("stem", "Head"), "head")
        False
    """
    paths = (paths,) if isinstance(paths, str) else tuple(paths)
    globs = (globs,) if isinstance(globs, str) else globs
    return any(fnmatchcase(path, glob) for glob in globs for path in paths)


def named_by(glob: str, paths: Iterable[str]) -> list[str]:
    """Lists the paths that a glob names, in their order.

    Example:
        >>> named_by("up.*", ["down.0", "up.0", "up.1"])
        ['up.0', 'up.1']
    """
    return [path for path in paths if fnmatchcase(path, glob)]


def first_unmatched(globs: Iterable[str], paths: Iterable[str]) -> str | None:
    """Returns the first glob that names no path, most likely a slip; None if each names one.

    Example:
        >>> first_unmatched(("up.*", "dwon.*"), ["down.0", "up.0"])
        'dwon.*'
    """
    paths = tuple(paths)
    return next((glob for glob in globs if not matches(paths, glob)), None)
