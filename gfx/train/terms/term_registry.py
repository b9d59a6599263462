"""Finds installed terms by the entry point `gfx.terms`, and reads `losses:` of recipes."""

from collections.abc import Mapping
from typing import Any

from gfx.errors import RecipeError, did_you_mean
from gfx.io.plain_data import shown
from gfx.train.named_kinds import installed_kinds, read_kind
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
    return installed_kinds(GROUP, Term)


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
        made.append(read_kind(known[name], value, "losses"))
    return made
