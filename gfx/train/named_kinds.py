"""Finds what plugins offer by entry point, and reads it from recipes.

These are terms, players, samplers and filters.

A kind is a frozen dataclass with a `name`; its fields are what a recipe may say. A word sets the
field that its `word` names.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_type_hints

from gfx.errors import RecipeError, RegistryError, did_you_mean
from gfx.io.plain_data import coerce, shown

__all__ = ["installed_kinds", "read_kind", "read_named"]


def installed_kinds(group: str, base: Any) -> dict[str, Any]:
    """Returns all installed kinds of an entry point group, by name.

    Raises: RegistryError if a plugin cannot be loaded, or two of them share a name.
    """
    return dict(_installed(tuple(entry_points(group=group)), base))


@cache
def _installed(points: tuple[EntryPoint, ...], base: Any) -> dict[str, Any]:
    what = re.sub(r"(?<!^)(?=[A-Z])", " ", base.__name__).lower()
    found: dict[str, Any] = {}
    for point in points:
        try:
            offered = tuple(point.load())
        except Exception as error:  # anyone's code
            raise RegistryError(
                f"the {what}s of {point.value} cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        for kind in offered:
            if not (isinstance(kind, type) and issubclass(kind, base)):
                raise RegistryError(f"{point.value} offers {kind!r}, which is no {base.__name__}")
            name = getattr(kind, "name", None)
            if not isinstance(name, str):
                raise RegistryError(
                    f"{point.value} offers {kind.__name__}, which has no name; give it one, as "
                    'name: ClassVar[str] = "brightness"'
                )
            if found.setdefault(name, kind) is not kind:
                raise RegistryError(
                    f"two {what}s are called {name!r}: {found[name].__module__} and "
                    f"{kind.__module__}; uninstall one of them"
                )
    return found


def read_named(
    known: Mapping[str, Any], data: Any, field: str, what: str, example: str,
    also: Sequence[str] = (),
) -> Any:  # fmt: skip
    """Makes one of the known kinds from its name, or a mapping of it to its fields.

    `also` are words that the field takes beside names of kinds.

    Raises: RecipeError naming the field, what was expected and what was found.
    """
    given = {data: {}} if isinstance(data, str) else data
    if not isinstance(given, Mapping) or len(given) != 1:
        raise RecipeError(
            f"{field}: the name of a {what} is expected, or one with its fields, as {example}, not "
            f"{shown(data)}"
        )
    ((name, value),) = given.items()
    if name not in known:
        names = (*also, *known)
        raise RecipeError(f"{field}: unknown {what} {shown(name)}{did_you_mean(name, names)}")
    return read_kind(known[name], value, field)


def read_kind(kind: Any, value: Any, field: str) -> Any:
    """Makes one of a kind from what a recipe says under a field: a number, a word or fields.

    A number sets `weight`, if the kind has it.

    Raises: RecipeError naming the field, what was expected and what was found.
    """
    where = f"{field}: {kind.name}"
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind)]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, str) and kind.word:
        given: Mapping[str, Any] = {kind.word: value}
    elif number and "weight" in known:
        given = {"weight": value}
    elif isinstance(value, Mapping):
        given = value
    else:
        weight = "a weight" if "weight" in known else "a mapping"
        word = f", the {kind.word} as a word" if kind.word else ""
        raise RecipeError(f"{where}: give {weight}{word} or fields, not {shown(value)}")
    made: dict[str, Any] = {}
    for key, each in given.items():
        if key not in known:
            raise RecipeError(f"{where}: unknown field {shown(key)}{did_you_mean(key, known)}")
        try:
            made[key] = coerce(each, hints[key])
        except TypeError as error:
            raise RecipeError(f"{where}: {key}: {error}") from error
    try:
        return kind(**made)
    except RecipeError as error:
        raise RecipeError(f"{field}: {error}") from error
    except Exception as error:  # anyone's __post_init__
        raise RecipeError(f"{where}: {type(error).__name__}: {error}") from error
