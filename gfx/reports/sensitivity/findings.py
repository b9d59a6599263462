"""Extends the sensitivity table that `gfx.inspect` returns by its views and its recipe."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import wraps
from typing import Any, ParamSpec

from gfx.ir.ambient_modes import shielded
from gfx.pipeline.recipe import Recipe
from gfx.progress import time_limit
from gfx.reports.sensitivity.sensitivity_figure import drawing
from gfx.reports.sensitivity.sensitivity_page import page
from gfx.reports.sensitivity.table_text import text
from gfx.sensitivity import Table, sensitivity_table
from gfx.sensitivity.to_recipe import recipe

__all__ = ["Findings", "inspect"]

P = ParamSpec("P")


@shielded
class Findings(Table):
    """A sensitivity table that writes itself as text, page, figure and recipe.

    Example:
        >>> import gfx
        >>> findings = gfx.inspect(gfx.zoo.build("dcgan", ngf=4))
        >>> print(str(findings).splitlines()[0])
        DcganGenerator: 641.02 K MACs, 62.26 K parameters
    """

    def recipe(
        self, budget: Mapping[str, Any] | None = None, *, time: float | None = None
    ) -> Recipe:
        """Returns a recipe that acts on the table, under a budget (gfx/sensitivity/to_recipe.py).

        `time` bounds the search for what meets the budget, in seconds.

        Raises: BudgetError if no probed change meets the budget; InputError if nothing is
        recommended.

        Example: `gfx.apply(table.recipe({"macs": 0.5}), model)` leaves half the MACs.
        """
        with time_limit(time):
            return recipe(self, budget)

    def to_html(self) -> str:
        """Returns one HTML page that sorts, and loads nothing."""
        return page(self)

    def to_png(self) -> bytes:
        """Draws damage by layer, and damage against saving.

        Raises: InputError if matplotlib is not installed.
        """
        return drawing(self)

    def __str__(self) -> str:
        return text(self)


def _as_findings(measure: Callable[P, Table]) -> Callable[P, Findings]:
    @wraps(measure)
    def inspect(*args: P.args, **kwargs: P.kwargs) -> Findings:
        table = measure(*args, **kwargs)
        return Findings(**{f.name: getattr(table, f.name) for f in fields(table)})

    inspect.__name__ = inspect.__qualname__ = "inspect"
    return inspect


inspect = _as_findings(sensitivity_table)
