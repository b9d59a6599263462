"""Finds installed terms by the entry point `gfx.terms`, and reads `losses:` of recipes."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_type_hints

from gfx.errors import RecipeError, RegistryError, did_you_mean
from gfx.io.plain_data import coerce, shown
from gfx.train.terms.term import Term

__all__ = ["GROUP", "read_terms", "terms"]

GROUP = "gfx.terms"


def terms() -> dict[str, type[Term]]:
    """Returns all installed terms by name.

    Raises: RegistryError if a plugin cannot be loaded, or two terms share a name.

    Example:
        >>> terms()["l1"].__name__
        'L1'
    """
    return dict(_installed(tuple(entry_points(group=GROUP))))


@cache
def _installed(points: tuple[EntryPoint, ...]) -> dict[str, type[Term]]:
    found: dict[str, type[Term]] = {}
    for point in points:
        try:
            offered = tuple(point.load())
        except Exception as error:  # anyone's code
            raise RegistryError(
                f"the terms of {point.value} cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        for kind in offered:
            if not (isinstance(kind, type) and issubclass(kind, Term)):
                raise RegistryError(f"{point.value} offers {kind!r}, which is no Term")
            if not isinstance(getattr(kind, "name", None), str):
                raise RegistryError(
                    f"{point.value} offers {kind.__name__}, which has no name; give it one, as "
                    'name: ClassVar[str] = "brightness"'
                )
            if found.setdefault(kind.name, kind) is not kind:
                raise RegistryError(
                    f"two terms are called {kind.name!r}: {found[kind.name].__module__} and "
                    f"{kind.__module__}; uninstall one of them"
                )
    return found


def read_terms(data: Any) -> list[Term]:
    """Reads `losses:`, a mapping of terms to a weight, a word or fields.

    Raises: RecipeError naming the term, what was expected and what was found.

    Example:
        >>> [type(term).__name__ for term in read_terms({"gan": "hinge", "l1": 100})]
        ['Gan', 'L1']
    """
    if not isinstance(data, Mapping):
        raise RecipeError(
            f"losses: a mapping of terms to weights is expected, as {{l1: 100}}, not {shown(data)}"
        )
    known = terms()
    made = []
    for name, value in data.items():
        if name not in known:
            raise RecipeError(f"losses: unknown term {shown(name)}{did_you_mean(name, known)}")
        made.append(_read(known[name], value, f"losses: {name}"))
    return made


def _read(kind: type[Term], value: Any, where: str) -> Term:
    if isinstance(value, str) and kind.word:
        given: Mapping[str, Any] = {kind.word: value}
    elif isinstance(value, int | float) and not isinstance(value, bool):
        given = {"weight": value}
    elif isinstance(value, Mapping):
        given = value
    else:
        word = f", the {kind.word} as a word" if kind.word else ""
        raise RecipeError(f"{where}: give a weight{word} or fields, not {shown(value)}")
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind)]
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
        raise RecipeError(f"losses: {error}") from error
    except Exception as error:  # anyone's __post_init__
        raise RecipeError(f"{where}: {type(error).__name__}: {error}") from error
