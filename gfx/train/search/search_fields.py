"""Defines what `search:` says: who proposes subnets, how many are judged, by what, within what."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_type_hints

from gfx.costs import check_spec
from gfx.errors import MOST, InputError, RecipeError, check_range, did_you_mean
from gfx.io.plain_data import coerce, plain, shown
from gfx.metrics.metric_name import parse_metric

__all__ = ["By", "Search", "read_search"]

By = Literal["survey", "evolution", "nsga2", "tpe", "random"]


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
    # of the front; or at a cost, as macs=2.67G, or a score, as l1=0.05; several are not run yet
    pick: str | tuple[str, ...] = "best"
    images: int | None = None  # held-out examples that nets are judged on at most; None: all
    halving: int = 0  # at each rung 1 of so many nets goes on, on as many times the examples; 0: no
    batch: int = 8  # nets that are proposed at a time
    population: int = 100  # of evolution; so many are drawn at random before it begins
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
            if timed := [name for name in self.budget if name.startswith("latency")]:
                raise RecipeError(
                    f"search: budget: {timed[0]}: subnets are priced by macs, params, param_bytes "
                    "and peak_activation_bytes; give one of these, and measure the front's nets"
                )
        if isinstance(self.pick, str):
            _check_pick(self.pick)

    @property
    def picked(self) -> str:
        """What is picked, of one net."""
        assert isinstance(self.pick, str)  # recipes that pick several are refused
        return self.pick.strip()

    def spec(self) -> dict[str, Any]:
        """Returns the fields, with every default, that `read_search` reads back."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}


def _check_pick(pick: str) -> None:
    """Checks what is picked: best, a cost, or a value of the score.

    Raises: RecipeError.
    """
    if pick.strip() == "best":
        return
    name, equals, text = (part.strip() for part in pick.rpartition("="))
    said = f"search: pick: {shown(pick)}"
    if not equals:
        raise RecipeError(
            f"{said} says no net; give best, a cost as macs=2.67G, or a value of the score as "
            "l1=0.05"
        )
    try:
        parse_metric(name)
    except InputError:
        try:
            check_spec({name: text})
        except RecipeError as error:
            raise RecipeError(f"{said}: {error}") from error
        if name.startswith("latency"):
            raise RecipeError(
                f"{said}: a front holds no measured latency; give macs or params"
            ) from None
        return
    try:
        float(text)
    except ValueError as error:
        raise RecipeError(f"{said}: {shown(text)} is no number") from error


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
        if (key, value) in (("budget", None), ("halving", False)):
            continue  # none
        try:
            made[key] = coerce(value, hints[key])
        except TypeError as error:
            raise RecipeError(f"{where}: {key}: {error}") from error
    try:
        return Search(**made)
    except RecipeError as error:
        said = str(error).removeprefix("search: ")
        raise RecipeError(f"{where}: {said}") from error
