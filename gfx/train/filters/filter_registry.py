"""Finds installed filters by the entry point `gfx.filters`, and reads `data:` of a fit."""

from typing import Any

from gfx.train.filters.example_filter import Filter
from gfx.train.named_kinds import installed_kinds, read_named

__all__ = ["filters", "read_filter"]

GROUP = "gfx.filters"

# of published systems; a plugin may have them, this version of gfx does not
LATER = ("adaptive",)


def filters() -> dict[str, type[Filter]]:
    """Returns all installed filters by name.

    Raises: RegistryError if a plugin cannot be loaded, or two filters share a name.

    Example:
        >>> sorted(filters())
        ['labelled', 'unlabelled']
    """
    return installed_kinds(GROUP, Filter)


def read_filter(data: Any) -> Filter | str | None:
    """Reads `data:`: the name of a filter, or one with its fields; `all` is None.

    The name of one that a published system has, and nothing that is installed, stays a name.

    Raises: RecipeError naming the filter, what was expected and what was found.

    Example:
        >>> read_filter("labelled"), read_filter("all"), read_filter("adaptive")
        (Labelled(), None, 'adaptive')
    """
    if data in (None, "all"):
        return None
    known = filters()
    if isinstance(data, str) and data in LATER and data not in known:
        return data
    made: Filter = read_named(known, data, "data", "filter", "{labelled: {}}", also=("all",))
    return made
