"""Limits on what a program may cost, as recipes write them."""

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gfx.costing.cost import CONVENTIONS, Cost, human
from gfx.errors import BudgetError, RecipeError

__all__ = ["Budget", "check_spec", "parse_budget"]

_MEASURES = ("macs", "params", "param_bytes", "peak_activation_bytes")
_SUFFIXES = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """One limit that a program must keep.

    Raises: RecipeError if a field has no meaning.

    Example:
        >>> Budget(limit=2.67e9, convention="output")
        Budget(measure='macs', convention='output', limit=2670000000.0)
    """

    measure: str = "macs"  # macs, params, param_bytes or peak_activation_bytes
    convention: str = "exact"  # of counting macs: exact, output or output+norm
    limit: float  # largest value allowed, > 0

    def __post_init__(self) -> None:
        _known("budget", "measure", self.measure, _MEASURES)
        _known("budget", "convention", self.convention, CONVENTIONS)
        if not 0 < self.limit < math.inf:
            raise RecipeError(f"budget: limit={self.limit} must be positive and finite")

    def value(self, cost: Cost) -> int:
        """Returns the figure of a cost that this budget limits."""
        if self.measure == "macs":
            return int(getattr(cost.macs, CONVENTIONS[self.convention]))
        return int(getattr(cost, self.measure))

    def check(self, cost: Cost) -> None:
        """Checks a cost.

        Raises: BudgetError with measure, value, limit and shortfall if the cost is too high.

        Example:
            >>> from gfx.costing import Macs
            >>> Budget(limit=100).check(Cost(Macs.same(100), 2, 8, 64))
        """
        value = self.value(cost)
        if value <= self.limit:
            return
        over = value - self.limit
        unit = "B" if self.measure.endswith("bytes") else ""
        raise BudgetError(
            f"{self.name} is {human(value, unit)} and the limit {human(self.limit, unit)}:"
            f" it exceeds the budget by {human(over, unit)} ({100 * over / self.limit:.1f} %);"
            " remove more, or raise the budget"
        )

    @property
    def name(self) -> str:
        """The measure, with the convention where there is one."""
        return f"macs ({self.convention})" if self.measure == "macs" else self.measure


def parse_budget(spec: Any, cost: Cost) -> tuple[Budget, ...]:
    """Reads the budget of a recipe, fractions against the cost of the input program.

    A number up to 1 is a fraction, any other an absolute limit; K, M, G and T are decimal.
    None is no budget.

    Raises: RecipeError if the spec says nothing gfx can check.

    Example:
        >>> from gfx.costing import Macs
        >>> parse_budget({"macs": 0.5, "params": "1.5K"}, Cost(Macs.same(800), 2, 8, 64))[0]
        Budget(measure='macs', convention='exact', limit=400.0)
    """
    budgets = []
    for measure, convention, limit in _read(spec):
        whole = Budget(measure=measure, convention=convention, limit=max(limit, 1))
        if limit <= 1:
            limit *= whole.value(cost)
        if limit <= 0:
            raise RecipeError(f"budget: {whole.name} of the model is 0, a fraction of it no limit")
        budgets.append(Budget(measure=measure, convention=convention, limit=limit))
    return tuple(budgets)


def check_spec(spec: Any) -> None:
    """Checks the budget of a recipe before there is a model to measure.

    Raises: RecipeError if the spec says nothing gfx can check.

    Example:
        >>> check_spec({"macs": {"limit": "2.67G", "convention": "output+norm"}})
    """
    _read(spec)


def _read(spec: Any) -> list[tuple[str, str, float]]:
    """Reads a spec into (measure, convention, limit or fraction)."""
    if spec is None:
        return []
    if not isinstance(spec, Mapping) or not spec:
        raise RecipeError(f"budget: {spec!r} is no mapping; write for example {{macs: 0.5}}")
    return [_entry(measure, value) for measure, value in spec.items()]


def _entry(measure: Any, value: Any) -> tuple[str, str, float]:
    _known("budget", "measure", measure, _MEASURES)
    if not isinstance(value, Mapping):
        return measure, "exact", _number(f"budget: {measure}", value)
    allowed = ("limit", "convention") if measure == "macs" else ("limit",)
    for key in value:
        _known(f"budget: {measure}", "key", key, allowed)
    if "limit" not in value:
        raise RecipeError(f"budget: {measure} has no limit; write {{{measure}: {{limit: 0.5}}}}")
    convention = value.get("convention", "exact")
    _known(f"budget: {measure}", "convention", convention, CONVENTIONS)
    return measure, convention, _number(f"budget: {measure}", value["limit"])


def _number(where: str, value: Any) -> float:
    """Reads a positive number, also from text such as "2.67G" or "16 MB"."""
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    elif isinstance(value, str):
        unit = "B?" if where.endswith("bytes") else ""
        match = re.fullmatch(rf"\s*([\d.]+(?:e[+-]?\d+)?)\s*([KMGT]?){unit}\s*", value, re.I)
        if match and match[1].count(".") <= 1 and match[1].strip(".eE"):
            number = float(match[1]) * _SUFFIXES[match[2].upper()]
    if not 0 < number < math.inf:
        raise RecipeError(
            f"{where} is {value!r}, which is no positive number;"
            " write a fraction such as 0.5, or a limit such as 2.67G"
        )
    return number


def _known(where: str, what: str, name: Any, names: Iterable[str]) -> None:
    """Raises RecipeError, with the nearest name, if a name is unknown."""
    names = tuple(names)
    if name in names:
        return
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    raise RecipeError(f"{where}: unknown {what} {name!r}; {hint}")
