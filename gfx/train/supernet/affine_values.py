"""Finds the numbers of a program that follow the widths, as functions of the widths.

A removal knows what every number of a graph becomes. Taken at a few widths, its results tell the
rest: sizes are affine in the widths, and the corrections of means and norms are affine as they are,
as their reciprocals or as their squares' reciprocals. More results than needed are taken, and a
number that does not follow its function at all of them is refused.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from torch import fx

from gfx.errors import EditError

__all__ = [
    "Differs",
    "Number",
    "Place",
    "WidthFunction",
    "fit_number",
    "not_followed",
    "number_at",
    "places",
    "replaced",
]

Number = int | float
Place = tuple[Any, ...]  # the way from an argument to a number in it

_CLOSE = 1e-9  # relative, of numbers with a fraction


class Differs(Exception):
    """Says that two results have other things than numbers that differ."""


def places(values: Sequence[Any]) -> Iterator[tuple[Place, tuple[Number, ...]]]:
    """Lists where some arguments, one of each result, hold different numbers, and which.

    Raises: Differs if they differ in anything else.

    Example:
        >>> list(places([(1, [8, 4]), (1, [6, 4])]))
        [((1, 0), (8, 6))]
    """
    first = values[0]
    listed = all(isinstance(value, list | tuple) for value in values)
    if not listed and any(type(value) is not type(first) for value in values):
        raise Differs(f"{first!r} is of another kind elsewhere")
    if isinstance(first, fx.Node):
        if any(value.name != first.name for value in values):
            raise Differs(f"{first.name} is another node elsewhere")
    elif isinstance(first, list | tuple):
        if any(len(value) != len(first) for value in values):
            raise Differs(f"{first!r} has another length elsewhere")
        for i in range(len(first)):
            yield from (((i, *at), n) for at, n in places([value[i] for value in values]))
    elif isinstance(first, Mapping):
        if any(value.keys() != first.keys() for value in values):
            raise Differs(f"{first!r} has other keys elsewhere")
        for key in first:
            yield from (((key, *at), n) for at, n in places([value[key] for value in values]))
    elif isinstance(first, slice):
        for name in ("start", "stop", "step"):
            ends = [getattr(value, name) for value in values]
            yield from (((name, *at), n) for at, n in places(ends))
    elif any(value != first for value in values):
        if isinstance(first, bool) or not isinstance(first, int | float):
            raise Differs(f"{first!r} is another value elsewhere")
        yield (), tuple(values)


def number_at(value: Any, place: Place) -> Number | None:
    """Returns the number in a place of an argument; None if something else is there.

    Example:
        >>> number_at((1, [8, 4]), (1, 0)), number_at((1, 2), (1, 0))
        (8, None)
    """
    for key in place:
        try:
            value = getattr(value, key) if isinstance(value, slice) else value[key]
        except (TypeError, LookupError, AttributeError):
            return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else None


def replaced(value: Any, put: Mapping[Place, Any]) -> Any:
    """Puts other values in some places of an argument.

    Example:
        >>> replaced((1, [8, 4]), {(1, 0): 6})
        (1, [6, 4])
    """
    if not put:
        return value
    if () in put:
        return put[()]
    below: dict[Any, dict[Place, Any]] = {}
    for place, new in put.items():
        below.setdefault(place[0], {})[place[1:]] = new
    if isinstance(value, slice):
        ends = {n: replaced(getattr(value, n), below.get(n, {})) for n in ("start", "stop", "step")}
        return slice(ends["start"], ends["stop"], ends["step"])
    if isinstance(value, Mapping):
        return {key: replaced(each, below.get(key, {})) for key, each in value.items()}
    items = [replaced(each, below.get(i, {})) for i, each in enumerate(value)]
    return tuple(items) if isinstance(value, tuple) else items


@dataclass(frozen=True)
class WidthFunction:
    """A number as a function of the widths: of an affine form, what `inverse` undoes of it."""

    slopes: tuple[tuple[int, Fraction | float], ...]  # (number of the group, for each channel)
    constant: Fraction | float
    form: str = "plain"

    def at(self, widths: Sequence[int]) -> Number:
        """Returns the number at some widths.

        Example:
            >>> WidthFunction(((0, Fraction(4)),), Fraction(2)).at([3])
            14
        """
        total = self.constant + sum(slope * widths[i] for i, slope in self.slopes)
        if isinstance(total, float):
            return _INVERSES[self.form](total)
        if total.denominator != 1:
            raise EditError(f"a size would be {total}; please report this program as a bug")
        return int(total)


# of what is affine: the number itself, its reciprocal, the reciprocal of its square
_FORMS: dict[str, Callable[[float], float]] = {
    "plain": lambda n: n,
    "reciprocal": lambda n: 1 / n,
    "root": lambda n: n**-2,
}
_INVERSES: dict[str, Callable[[float], float]] = {
    "plain": lambda n: n,
    "reciprocal": lambda n: 1 / n,
    "root": lambda n: n**-0.5,
}


def fit_number(
    numbers: Sequence[Number], widths: Sequence[Sequence[int]], among: frozenset[int]
) -> WidthFunction | None:
    """Finds the function that a number follows; None if it follows none.

    Args:
        numbers: at each of the widths.
        widths: the first are a base; each later row is compared with it, and where a single group
            of `among` differs, its slope follows. All of them are then held to the function.
        among: the groups that it may depend on.

    Example:
        >>> fit_number([8, 10, 16], [[4, 1], [5, 1], [8, 7]], frozenset([0])).slopes
        ((0, Fraction(2, 1)),)
    """
    whole = all(isinstance(n, int) for n in numbers)
    for form, shape in _FORMS.items():
        if form != "plain" and (whole or 0 in numbers):
            break
        shaped: list[Any] = [Fraction(n) if whole else shape(float(n)) for n in numbers]
        found = _affine(shaped, widths, among, form)
        if found is not None and all(
            _close(found.at(row), n) for row, n in zip(widths, numbers, strict=True)
        ):
            return found
    return None


def not_followed(
    numbers: Sequence[Number], widths: Sequence[Sequence[int]], among: frozenset[int]
) -> frozenset[int]:
    """Returns the groups that a number follows in no known way; if none is alone in it, all.

    Args:
        numbers: at each of the widths, which follow no function of all groups.
        widths: the first are a base.
        among: the groups that it may depend on.

    Example:
        >>> widths = [[4, 9], [5, 9], [1, 9], [4, 8]]
        >>> sorted(not_followed([20, 20, 0, 20], widths, frozenset([0, 1])))
        [0]
    """
    base, found = widths[0], set()
    for group in among:
        alone = [
            at
            for at, row in enumerate(widths)
            if all(row[i] == base[i] for i in among if i != group)
        ]
        held = [numbers[at] for at in alone], [widths[at] for at in alone]
        if fit_number(*held, frozenset([group])) is None:
            found.add(group)
    return frozenset(found) or among


def _affine(
    numbers: Sequence[Any], widths: Sequence[Sequence[int]], among: frozenset[int], form: str
) -> WidthFunction | None:
    base, slopes = widths[0], dict[int, Any]()
    for row, number in zip(widths[1:], numbers[1:], strict=True):
        moved = [i for i in among if row[i] != base[i]]
        if len(moved) == 1 and moved[0] not in slopes:
            slopes[moved[0]] = (number - numbers[0]) / (row[moved[0]] - base[moved[0]])
    found = {i: slope for i, slope in slopes.items() if slope}
    constant = numbers[0] - sum(slope * base[i] for i, slope in found.items())
    return WidthFunction(tuple(sorted(found.items())), constant, form)


def _close(a: Number, b: Number) -> bool:
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return abs(a - b) <= _CLOSE * max(abs(a), abs(b), 1e-300)
