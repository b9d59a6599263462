"""Holds what a search chooses among: subnets as rows of numbers, priced exactly, within budgets.

1. A row has a number for every dimension: which of its choices, counted from 0, the smallest first.
2. A row beyond a budget comes within it by steps towards the smallest row. Without forms prices
   rise with every number. A form may cost more than the dense layer, in memory for one: the
   smallest row then has the form that lets it keep the budgets.
3. Rows that differ only in what a skipped block hides are one subnet; `canonical` says which row.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfx.costs import Budget
from gfx.errors import BudgetError
from gfx.ir.choice_nodes import ALWAYS, either, holds
from gfx.train.supernet import Assignment, Supernet

__all__ = ["Row", "SearchSpace", "Table"]

Row = tuple[int, ...]
Table = NDArray[np.int64]  # (rows, dimensions)

_CHUNK = 4096  # rows that are priced at a time: their numbers stay in the cache
_TRIES = 64  # draws for a row before one is made smaller


class SearchSpace:
    """The subnets of a supernet within budgets.

    `names` are those of the dimensions: a group, or the first of groups that are chosen together;
    `counts` how many choices each has.

    Raises: BudgetError if no subnet keeps the budgets.

    Example:
        >>> import gfx
        >>> net = gfx.supernet(gfx.zoo.build("dcgan", ngf=8), widths=[0.5, 1.0])
        >>> space = SearchSpace(net)
        >>> space.names[0], space.counts, space.widths((0, 1, 1, 1))["project.conv"]
        ('project.conv', (2, 2, 2, 2), 32)
    """

    def __init__(self, net: Supernet, budgets: Sequence[Budget] = ()) -> None:
        self.net, self.budgets = net, tuple(budgets)
        self.members, choices = net.dimensions, net.choices
        self.names = tuple(names[0] for names in self.members)
        self.counts = tuple(len(choices[name]) for name in self.names)
        self._pricing = net.pricing
        place = {group.name: i for i, group in enumerate(self._pricing.groups)}
        options = [len(values) - 1 for values in net.options.values()]
        sizes = [group.size for group in self._pricing.groups]
        self._full = np.array([*sizes, *options], dtype=np.int64)
        place |= {name: len(sizes) + number for number, name in enumerate(net.options)}
        self._columns: list[tuple[int, int, Table]] = []  # group, dimension, its widths in units
        for dim, names in enumerate(self.members):
            for name in names:
                units = np.arange(len(choices[name]), dtype=np.int64)
                if name in net.widths:
                    each = self._pricing.groups[place[name]].takes[0]
                    units = np.array(net.widths[name], dtype=np.int64) // each
                self._columns.append((place[name], dim, units))
        self._options = [self.names.index(name) for name in net.options]
        when = net.when_used() if net.options else {}
        self._when = {
            dim: either((when[name] for name in names), dict(enumerate(o + 1 for o in options)))
            for dim, names in enumerate(self.members)
            if net.options
        }
        self.smallest: Row = (0,) * len(self.counts)
        if net.options:
            self.smallest = self._within_budgets(self.row(net.smallest()))
        self._refuse_unreachable()

    @property
    def largest(self) -> Row:
        """The whole net."""
        return tuple(count - 1 for count in self.counts)

    @property
    def size(self) -> int:
        """How many subnets there are, within the budgets or not."""
        return prod(self.counts)

    def widths(self, row: Sequence[int]) -> dict[str, Any]:
        """Returns the choices of a row by name: widths, forms of layers, what is skipped."""
        choices = self.net.choices
        found = {
            name: choices[name][number]
            for names, number in zip(self.members, row, strict=True)
            for name in names
        }
        return {name: found[name] for name in choices}

    def row(self, widths: Assignment) -> Row:
        """Returns the row of some choices; what is not given is as in the whole net."""
        choices = self.net.choices
        return tuple(
            choices[name].index(widths.get(name, choices[name][-1])) for name in self.names
        )

    def canonical(self, table: Any) -> Table:
        """Gives what no node of a subnet follows its smallest choice (rule 3)."""
        rows = np.array(table, dtype=np.int64).reshape(-1, len(self.counts))
        if not self._options or not len(rows):
            return rows
        options = rows[:, self._options]
        for dim, when in self._when.items():
            if when != ALWAYS:
                rows[~holds(when, options), dim] = 0
        return rows

    def price(self, table: Any) -> dict[str, NDArray[np.int64]]:
        """Prices rows in every measure of `gfx.Cost`, to the last digit."""
        parts = [self._pricing.price(units) for units in self._units(table)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def value(self, table: Any, budget: Budget) -> NDArray[np.int64]:
        """Prices rows in the measure of a budget."""
        return np.concatenate([self._pricing.value(u, budget) for u in self._units(table)])

    def allowed(self, table: Any) -> NDArray[np.bool_]:
        """Tells which rows keep every budget."""
        rows = np.atleast_2d(np.asarray(table, dtype=np.int64))
        kept = np.ones(len(rows), dtype=bool)
        for budget in self.budgets:
            kept &= self.value(rows, budget) <= budget.limit
        return kept

    def draw(self, rng: np.random.Generator, count: int) -> Table:
        """Draws rows within the budgets, each choice as likely as the budgets let it be.

        Where few rows keep them, rows that do not are made smaller.
        """
        found: list[Table] = []
        missing, tries = count, 0
        while missing and tries < _TRIES:
            drawn = rng.integers(0, self.counts, (max(2 * missing, 16), len(self.counts)))
            kept = drawn[self.allowed(drawn)][:missing]
            found.append(kept)
            missing -= len(kept)
            tries = tries + 1 if len(kept) == 0 else max(tries - 1, 0)
            if tries > 3 and missing:
                break
        if missing:
            drawn = rng.integers(0, self.counts, (missing, len(self.counts)))
            found.append(self.within(drawn, rng))
        return np.concatenate(found) if found else np.empty((0, len(self.counts)), np.int64)

    def smallest_rows(self, most: int) -> list[Row]:
        """Lists rows within the budgets from the smallest one on, `most` if there are so many.

        What is smaller than a row within the budgets is within them too (rule 2).
        """
        found = dict.fromkeys([self.smallest])
        queue = deque(found)
        steps = np.eye(len(self.counts), dtype=np.int64)
        while queue and len(found) < most:
            row = np.array(queue.popleft(), dtype=np.int64)
            larger = row + steps[row < np.array(self.counts) - 1]
            if self._options:  # what is smaller may be beyond the budgets
                larger = self.canonical(np.concatenate([larger, row - steps[row > 0]]))
            rows = larger[self.allowed(larger)].tolist() if len(larger) else []
            fresh = [tuple(each) for each in rows if tuple(each) not in found]
            found |= dict.fromkeys(fresh)
            queue.extend(fresh)
        return list(found)[:most]

    def within(self, table: Any, rng: np.random.Generator) -> Table:
        """Makes rows smaller, choice by choice at random, until they keep the budgets (rule 2)."""
        rows = np.array(table, dtype=np.int64, ndmin=2)
        beyond = np.flatnonzero(~self.allowed(rows)) if len(rows) else np.empty(0, np.int64)
        while beyond.size:
            self.step_down(rows, beyond, rng)
            beyond = beyond[~self.allowed(rows[beyond])]
        return rows

    def step_down(
        self, rows: Table, which: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Moves a choice of some rows, at random, one step towards the smallest row, in place.

        Returns: which of them were there already.
        """
        apart = np.sign(np.array(self.smallest) - rows[which])
        weights = rng.random((which.size, rows.shape[1])) * (apart != 0)
        chosen = weights.argmax(1)
        rows[which, chosen] += apart[np.arange(which.size), chosen]
        there: NDArray[np.bool_] = weights.max(1) <= 0
        return there

    def _within_budgets(self, row: Row) -> Row:
        """Takes other forms, one at a time, as long as they bring a row nearer to the budgets."""
        best = self.canonical(row)
        while True:
            tried = np.repeat(best, len(self._options), axis=0)
            at = np.arange(len(tried)), np.array(self._options)
            tried[at] = (tried[at] + 1) % np.array(self.counts)[self._options]
            tried = np.concatenate([best, self.canonical(tried)])
            over = np.zeros(len(tried))
            for budget in self.budgets:
                if not budget.timed:
                    over += np.maximum(self.value(tried, budget) / max(budget.limit, 1) - 1, 0)
            if over.argmin() == 0:
                return tuple(best[0].tolist())
            best = tried[[over.argmin()]]

    def mutate(self, table: Any, rate: float, rng: np.random.Generator) -> Table:
        """Draws each number of rows anew with a probability, at least one, within the budgets."""
        rows = np.array(table, dtype=np.int64, ndmin=2)
        chosen = rng.random(rows.shape) < rate
        chosen[np.arange(len(rows)), rng.integers(0, rows.shape[1], len(rows))] = True
        drawn = rng.integers(0, self.counts, rows.shape)
        return self.within(np.where(chosen, drawn, rows), rng)

    def cross(self, first: Any, second: Any, rng: np.random.Generator) -> Table:
        """Takes each number of a row from one of two, within the budgets."""
        one, other = (np.array(t, dtype=np.int64, ndmin=2) for t in (first, second))
        return self.within(np.where(rng.random(one.shape) < 0.5, one, other), rng)

    def _units(self, table: Any) -> Iterator[Table]:
        """Iterates over the channels that go together of every group, for some rows at a time."""
        rows = np.atleast_2d(np.asarray(table, dtype=np.int64))
        for first in range(0, max(len(rows), 1), _CHUNK):
            columns = np.ascontiguousarray(rows[first : first + _CHUNK].T)
            units = np.empty((len(self._full), columns.shape[1]), np.int64)
            units[:] = self._full[:, None]
            for group, dim, widths in self._columns:
                np.take(widths, columns[dim], out=units[group])
            yield units.T

    def _refuse_unreachable(self) -> None:
        for budget in self.budgets:
            if budget.timed:
                raise BudgetError(
                    f"{budget.name}: a search of subnets prices macs, params, param_bytes and "
                    "peak_activation_bytes; give one of these, and measure the nets of the front"
                )
            least = int(self.value(self.smallest, budget)[0])
            if least > budget.limit:
                kept = self.net.kept_whole
                why = "; ".join(f"{name}: {said}" for name, said in list(kept.items())[:3])
                pins = f"; what stays whole: {why}" if why else ""
                raise BudgetError(
                    f"{budget.name}: the limit is {budget.said(budget.limit)}, and the smallest "
                    f"subnet takes {budget.said(least)}; raise the budget (--budget, in Python "
                    "budget=), or give the supernet "
                    f"smaller widths{pins}"
                )
