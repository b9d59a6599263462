"""Writes tuples with names of a graph, and reads them back without importing their class.

A file names the class and its fields. A reader makes a class of the same name and fields; only one
who trusts the file has the class itself imported.
"""

import importlib
import keyword
from collections import namedtuple
from typing import Any

from torch import fx

from gfx.errors import ArchiveError

__all__ = ["describe", "imported", "restored", "stand_in"]

_NAMED = "__gfx_stands_for__"


def describe(value: Any) -> list[Any]:
    """Returns the class and the fields of a named tuple.

    Example:
        >>> describe(namedtuple("Pair", "a b", module="nets")(1, 2))
        ['nets', 'Pair', ['a', 'b']]
    """
    kind = type(value)
    module, name = getattr(kind, _NAMED, (kind.__module__, kind.__qualname__))
    return [module, name, list(kind._fields)]


def stand_in(module: Any, name: Any, fields: Any) -> Any:
    """Makes a class of named tuples that stands for the one that a file names.

    Raises: ArchiveError if a name cannot be one.
    """
    last = str(name).rpartition(".")[2]
    words = [last, *fields]
    if any(not isinstance(w, str) or not w.isidentifier() or keyword.iskeyword(w) for w in words):
        raise ArchiveError(f"the file holds {name!r} where the name of a tuple must stand")
    if any(word.startswith("_") for word in fields) or len(set(fields)) < len(fields):
        raise ArchiveError(f"the file holds the fields {fields!r} of a named tuple")
    make: Any = namedtuple
    made = make(last, fields)
    made.__module__ = "gfx.io.archive.named_tuples"
    made.__doc__ = f"Stands for {module}.{name}; gfx.open_model(file, trust=True) imports that."
    setattr(made, _NAMED, (str(module), str(name)))
    return made


def restored(graph: fx.Graph, file: object) -> None:
    """Puts the classes themselves in the place of those that stand for them; imports them.

    Raises: ArchiveError if one cannot be imported, or has other fields.
    """

    def own(value: Any) -> Any:
        if isinstance(value, tuple) and hasattr(type(value), _NAMED):
            return _imported(type(value), file)(*(own(item) for item in value))
        if type(value) in (tuple, list):
            return type(value)(own(item) for item in value)
        if isinstance(value, dict):
            return {key: own(item) for key, item in value.items()}
        return [own(item) for item in value] if isinstance(value, list) else value

    for node in graph.nodes:
        node.args = own(tuple(node.args))
        node.kwargs = {key: own(value) for key, value in node.kwargs.items()}


def _imported(kind: Any, file: object) -> Any:
    module, name = getattr(kind, _NAMED)
    otherwise = "a tuple of those names"
    found = imported(module, name, file, otherwise)
    if not issubclass(found, tuple) or getattr(found, "_fields", None) != kind._fields:
        raise ArchiveError(
            f"{file} returns a {module}.{name} with the fields {', '.join(kind._fields)}, and the "
            f"one that is installed has others; open it without trust for {otherwise}"
        )
    return found


def imported(module: str, name: str, file: object, otherwise: str) -> Any:
    """Imports a class that a trusted file names; without trust there is something else.

    Raises: ArchiveError if it cannot be imported, or is no class.
    """
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        if not isinstance(found, type):
            raise TypeError("it is no class")
    except Exception as error:  # user code runs at import
        raise ArchiveError(
            f"{file} returns a {module}.{name}, which cannot be imported "
            f"({type(error).__name__}: {error}); open it without trust for {otherwise}"
        ) from error
    return found
