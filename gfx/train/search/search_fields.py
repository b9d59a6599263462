"""Defines what `search:` says: who proposes subnets, how many are judged, by what, within what."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_type_hints

from gfx.costs import check_spec
from gfx.errors import MOST, InputError, RecipeError, check_range, did_you_mean
from gfx.io.plain_data import coerce, plain, shown
from gfx.metrics.metric_name import parse_metric

__all__ = ["By", "Search", "read_search"]

By = Literal["survey", "evolution", "nsga2", "tpe", "random"]

_PICK = re.compile(r"best|[a-z_]+\s*=\s*\d+(?:\.\d+)?\s*[KMGT]?")


@dataclass(frozen=True)
class Search:
    """A search among the subnets of a supernet.

    survey: the damage of each choice alone, then what a model of it proposes; evolution: GAN
    Compression's; nsga2, tpe: Optuna's; random: any within the budget.

    The defaults of `population`, `parents`, `mutations` and `rate` are those of GAN Compression.

    Source: Li et al. 2020, arXiv:2003.08936, section 3.3, and its code.
    """

    by: By = "survey"
    evaluations: int = 200  # distinct nets that are judged
    score: str | None = None  # a metric; None: what the run is judged by
    budget: dict[str, Any] = field(default_factory=dict)  # as a recipe has it
    pick: str = "best"  # of the front; or the best at a cost, as macs=2.67G
    images: int | None = None  # held-out examples that nets are judged on at most; None: all
    halving: int = 0  # at each rung 1 of so many nets goes on, on as many times the examples; 0: no
    batch: int = 8  # nets that are proposed at a time
    population: int = 100  # of evolution
    parents: float = 0.25  # share of the population
    mutations: float = 0.5  # share of the children that are mutants; the others cross two parents
    rate: float = 0.2  # at which a mutant's choices are drawn anew

    def __post_init__(self) -> None:
        check_range("search: evaluations", self.evaluations, at_least=1, at_most=MOST)
        check_range("search: batch", self.batch, at_least=1, at_most=MOST)
        check_range("search: population", self.population, at_least=2, at_most=MOST)
        check_range("search: parents", self.parents, above=0, at_most=1)
        check_range("search: mutations", self.mutations, at_least=0, at_most=1)
        check_range("search: rate", self.rate, above=0, at_most=1)
        if self.images is not None:
            check_range("search: images", self.images, at_least=1, at_most=MOST)
        if self.halving:
            check_range("search: halving", self.halving, at_least=2, at_most=64)
        if self.score is not None:
            try:
                parse_metric(self.score)
            except InputError as error:
                raise RecipeError(f"search: score: {error}") from error
        if self.budget:
            try:
                check_spec(self.budget)
            except RecipeError as error:
                raise RecipeError(f"search: {error}") from error
        if not _PICK.fullmatch(self.pick.strip()):
            raise RecipeError(
                f"search: pick: {shown(self.pick)} says no net; give best, or a cost as macs=2.67G"
            )

    def spec(self) -> dict[str, Any]:
        """Returns the fields, with every default, that `read_search` reads back."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}


def read_search(data: Any, where: str = "search") -> Search:
    """Reads `search:`, a proposer's name or a mapping.

    Raises: RecipeError that says where, what was found and what was expected.

    Example:
        >>> read_search({"by": "evolution", "budget": {"macs": 0.1}}).population
        100
    """
    given = {"by": data} if isinstance(data, str) else data
    if not isinstance(given, Mapping):
        raise RecipeError(f"{where}: a mapping is expected, as {{by: survey}}, not {shown(data)}")
    hints = get_type_hints(Search)
    made: dict[str, Any] = {}
    for key, value in given.items():
        if key not in hints:
            raise RecipeError(f"{where}: unknown field {shown(key)}{did_you_mean(key, hints)}")
        try:
            made[key] = coerce(value, hints[key]) if value is not None or key != "budget" else {}
        except TypeError as error:
            raise RecipeError(f"{where}: {key}: {error}") from error
    try:
        return Search(**made)
    except RecipeError as error:
        said = str(error).removeprefix("search: ")
        raise RecipeError(f"{where}: {said}") from error
