"""Reads budgets as recipes write them."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from gfx.costs.budget import BACKENDS, LATENCY, MEASURES, Budget, known
from gfx.costs.cost import CONVENTIONS, Cost
from gfx.costs.latency_reading import Reading
from gfx.errors import RecipeError

__all__ = ["check_spec", "parse_budget"]

_MS = "latency_ms"
_SUFFIXES = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_KEYS = {
    "macs": ("limit", "convention"),
    LATENCY: ("limit", "backend", "threads"),
    _MS: ("limit", "backend", "threads"),
}


def parse_budget(
    spec: Any, cost: Cost, original: Callable[[Budget], Reading] | None = None
) -> tuple[Budget, ...]:
    """Reads the budget of a recipe, fractions against what the input program costs.

    A number up to 1 is a fraction, any other an absolute limit; K, M, G and T are decimal.
    `latency_ms` is a limit in milliseconds, `latency` a fraction. None is no budget.

    Args:
        spec: as a recipe has it.
        cost: of the input program.
        original: measures the input program for a budget on latency; without it a fraction of the
            latency keeps its limit open.

    Raises: RecipeError if the spec says nothing gfx can check.

    Example:
        >>> from gfx.costs import Macs
        >>> found = parse_budget({"macs": 0.5, "params": "1.5K"}, Cost(Macs.same(800), 2, 8, 64))
        >>> [(budget.name, budget.limit) for budget in found]
        [('macs (exact)', 400.0), ('params', 1500.0)]
    """
    budgets = []
    for budget, share in _read(spec):
        if budget.timed:
            budgets.append(budget if original is None else budget.of(original(budget)))
            continue
        limit = budget.limit if share is None else share * budget.value(cost)
        if limit <= 0:
            raise RecipeError(f"budget: {budget.name} of the model is 0, a fraction of it no limit")
        budgets.append(Budget(measure=budget.measure, convention=budget.convention, limit=limit))
    return tuple(budgets)


def check_spec(spec: Any) -> None:
    """Checks the budget of a recipe before there is a model to measure.

    Raises: RecipeError if the spec says nothing gfx can check.

    Example:
        >>> check_spec({"macs": {"limit": "2.67G", "convention": "output+norm"}})
        >>> check_spec({"latency": {"limit": 0.1, "backend": "compile"}})
    """
    _read(spec)


def _read(spec: Any) -> list[tuple[Budget, float | None]]:
    """Reads a spec into budgets and, where one is counted, the fraction that is its limit."""
    if spec is None:
        return []
    if not isinstance(spec, Mapping) or not spec:
        raise RecipeError(f"budget: {spec!r} is no mapping; write for example {{macs: 0.5}}")
    return [_entry(measure, value) for measure, value in spec.items()]


def _entry(measure: Any, value: Any) -> tuple[Budget, float | None]:
    known("budget", "measure", measure, (*MEASURES, _MS))
    where = f"budget: {measure}"
    fields = dict(value) if isinstance(value, Mapping) else {"limit": value}
    for key in fields:
        known(where, "key", key, _KEYS.get(measure, ("limit",)))
    if "limit" not in fields:
        raise RecipeError(f"{where} has no limit; write {{{measure}: {{limit: 0.5}}}}")
    if measure in (LATENCY, _MS):
        return _latency(measure, fields), None
    convention = fields.get("convention", "exact")
    known(where, "convention", convention, CONVENTIONS)
    limit = _number(where, fields["limit"])
    whole = Budget(measure=measure, convention=convention, limit=max(limit, 1))
    return whole, limit if limit <= 1 else None


def _latency(measure: str, fields: Mapping[str, Any]) -> Budget:
    """Reads a limit in milliseconds, or as a fraction of what the original takes."""
    where = f"budget: {measure}"
    backend, threads = fields.get("backend", "eager"), fields.get("threads")
    known(where, "backend", backend, BACKENDS)
    if threads is not None and (type(threads) is not int or threads < 1):
        raise RecipeError(f"{where}: threads is {threads!r}; it is a number of threads, at least 1")
    limit = _milliseconds(where, fields["limit"]) if measure == _MS else 0.0
    share = None if measure == _MS else _fraction(fields["limit"])
    return Budget(measure=LATENCY, backend=backend, threads=threads, limit=limit, fraction=share)


def _fraction(value: Any) -> float:
    number = math.nan if isinstance(value, bool) else _plain(value)
    if 0 < number <= 1:
        return number
    say = f"; in milliseconds, write {{{_MS}: {value}}}" if number > 1 else ""
    raise RecipeError(
        f"budget: {LATENCY} is {value!r}, which is no fraction of what the original takes, above "
        f"0 and at most 1{say}"
    )


def _milliseconds(where: str, value: Any) -> float:
    match = re.fullmatch(r"\s*(\S+?)\s*ms\s*", value) if isinstance(value, str) else None
    number = math.nan if isinstance(value, bool) else _plain(match[1] if match else value)
    if not 0 < number < math.inf:
        raise RecipeError(
            f"{where} is {value!r}, which is no positive number of milliseconds; write for example "
            f"{{{_MS}: 40}}"
        )
    return number


def _plain(value: Any) -> float:
    """Reads a number without a suffix; NaN if it is none."""
    try:
        return float(value) if isinstance(value, int | float | str) else math.nan
    except ValueError:
        return math.nan


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
