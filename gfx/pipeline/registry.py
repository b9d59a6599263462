"""Finds installed passes: a distribution offers its own through the entry point `gfx.passes`.

1. An entry point loads to a tuple of Pass classes; the built-in passes use one too.
2. Two different classes under one name are an error that names both sides.
3. A plugin that cannot be loaded is named with its reason and does not stop the others.
4. What is installed is read once a process, and again where `sys.path` has changed since, where a
   plugin was broken or clashed, and after `reread()`.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract

from gfx.contract import Pass
from gfx.errors import RegistryError, did_you_mean

__all__ = ["GROUP", "Broken", "InstalledPasses", "discover", "get", "passes", "reread"]

GROUP = "gfx.passes"

# what was found last, and by what: the reader of entry points and the path it searched
_cached: dict[tuple[object, tuple[str, ...]], "InstalledPasses"] = {}


@dataclass(frozen=True)
class Broken:
    """One entry point that could not be loaded, and why.

    Example:
        >>> Broken("acme (acme.passes:ALL)", "ImportError: no module named acme").plugin
        'acme (acme.passes:ALL)'
    """

    plugin: str
    why: str


@dataclass(frozen=True)
class InstalledPasses:
    """Every pass that is installed, and every plugin that is broken.

    Example:
        >>> "channel_prune" in discover().passes
        True
    """

    passes: dict[str, type[Pass]]
    origins: dict[str, str]  # pass name → "distribution (module.Class)"
    broken: tuple[Broken, ...]


def discover(points: Iterable[EntryPoint] | None = None) -> InstalledPasses:
    """Loads every entry point of the group; those that are installed once a process (rule 4).

    Raises: RegistryError if two different passes share a name (rule 2), each time.

    Example:
        >>> discover().broken
        ()
    """
    if points is not None:
        return _loaded(points)
    key = (entry_points, tuple(sys.path))
    if key not in _cached:
        found = _loaded(entry_points(group=GROUP))
        if found.broken:
            return found
        _cached.clear()
        _cached[key] = found
    # the dictionaries are the caller's to change
    found = _cached[key]
    return replace(found, passes=dict(found.passes), origins=dict(found.origins))


def reread() -> None:
    """Lets the next look at what is installed read it afresh.

    Example:
        >>> reread()
        >>> "channel_prune" in discover().passes
        True
    """
    _cached.clear()


def _loaded(points: Iterable[EntryPoint]) -> InstalledPasses:
    """Loads entry points in the order of their names (rules 2 and 3)."""
    found: dict[str, type[Pass]] = {}
    origins: dict[str, str] = {}
    broken: list[Broken] = []
    for point in sorted(points, key=lambda p: (p.name, p.value)):
        try:
            classes = _load(point)
        except Exception as error:  # rule 3: whatever a plugin's import raises
            broken.append(Broken(_plugin(point), f"{type(error).__name__}: {error}"))
            continue
        for kind in classes:
            origin = f"{_distribution(point)} ({kind.__module__}.{kind.__qualname__})"
            if found.get(kind.name, kind) is not kind:
                raise RegistryError(
                    f"pass {kind.name!r} is offered twice: by {origins[kind.name]} "
                    f"and by {origin}; uninstall one of them or rename its pass"
                )
            found[kind.name], origins[kind.name] = kind, origin
    return InstalledPasses(dict(sorted(found.items())), origins, tuple(broken))


def passes() -> dict[str, type[Pass]]:
    """Returns every installed pass by name; broken plugins are in `discover().broken`.

    Raises: RegistryError if two passes share a name.

    Example:
        >>> "fuse_batch_norm" in passes()
        True
    """
    return discover().passes


def get(name: str) -> type[Pass]:
    """Returns the pass of that name.

    Raises: RegistryError if there is none, with the nearest names and the broken plugins, one of
        which may be the one that has it.

    Example:
        >>> get("fuse_batchnorm")
        Traceback (most recent call last):
        gfx.errors.RegistryError: unknown pass 'fuse_batchnorm'; did you mean 'fuse_batch_norm'?
    """
    found = discover()
    if name in found.passes:
        return found.passes[name]
    broken = "".join(f"; plugin {b.plugin} could not be loaded: {b.why}" for b in found.broken)
    own = (
        "; a pass of yours is found by the entry point gfx.passes of an installed package, and in "
        "Python gfx.Recipe(passes=(YourPass(),)) takes it as it is"
    )
    own = own if ":" in name or "." in name else ""
    raise RegistryError(f"unknown pass {name!r}{did_you_mean(name, found.passes)}{own}{broken}")


def _load(point: EntryPoint) -> tuple[type[Pass], ...]:
    """Loads one entry point and checks that it is a tuple of usable Pass classes (rule 1)."""
    classes = point.load()
    if not isinstance(classes, tuple | list):
        raise TypeError(f"must be a tuple of Pass classes, not {type(classes).__name__}")
    for kind in classes:
        if not (isinstance(kind, type) and issubclass(kind, Pass)):
            raise TypeError(f"{kind!r} is not a subclass of gfx.Pass")
        if isabstract(kind) or not isinstance(getattr(kind, "name", None), str):
            raise TypeError(f"{kind.__qualname__} lacks `apply` or a `name`")
    return tuple(classes)


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unnamed distribution"


def _plugin(point: EntryPoint) -> str:
    return f"{_distribution(point)} ({point.value})"
