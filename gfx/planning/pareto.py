"""Finds plans of least damage where the cost of one choice depends on the others.

A layer costs less once the layer before it is narrower, so costs do not simply add up. If there are
few plans, all are tried. If there are many, three searches propose plans, and none depends on a
budget: so a larger budget never does more damage.

1. Descent: from the unchanged program, repeat the change of least damage per saving; every change
   is priced anew after each.
2. Repair: from the cheapest plan, repeat the change that repairs most damage per cost.
3. Knapsack: for some costs between, solve a knapsack over the costs of changing one choice at a
   time, priced anew around its plan, until the plan stays the same. All plans it proposes are
   priced.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from gfx.planning.choices import Choice
from gfx.planning.multiple_choice import Numbers, Plans, Price, knapsack, undominated
from gfx.progress import out_of_time, stopped

__all__ = ["ParetoFront"]

_ALL = 50_000  # plans: up to here every one is tried
_CHUNK = 10_000
_TARGETS = 8  # costs for which a knapsack is repeated until its plan stays
_ROUNDS = 4
_HAIR = 1e-9  # share of a cost or a damage below which a difference is rounding


class ParetoFront:
    """Finds the least damage at every cost.

    Damages add up; prices need not, in one measure or several. Lower is better.

    Example:
        >>> from gfx.planning import Option
        >>> choices = [Choice(n, (Option(None, 0.0), Option(1, 0.2))) for n in "ab"]
        >>> width = np.array([4.0, 1.0])
        >>> front = ParetoFront(choices, lambda plans: width[plans].prod(axis=1))
        >>> front.best([4.0]), front.best([0.5])
        ((0, 1), None)
    """

    def __init__(self, choices: Sequence[Choice], price: Price) -> None:
        self.choices = tuple(choices)
        self._damages = [np.array([o.damage for o in c.options]) for c in choices]
        self._price = price
        self._singles = _singles(self._damages)
        self._plans: list[NDArray[np.int16]] = []
        self._found: list[tuple[Numbers, Numbers]] = []
        self._explore()
        self.plans = np.concatenate(self._plans)
        self.prices = np.concatenate([prices for prices, _ in self._found])
        self.damages = np.concatenate([damages for _, damages in self._found])

    def best(self, limits: Sequence[float]) -> tuple[int, ...] | None:
        """Returns the plan of least damage within the limits; of equals the cheaper; None if none.

        Args:
            limits: one for each measure.
        """
        within = np.flatnonzero((self.prices <= np.asarray(limits)).all(axis=1))
        if not len(within):
            return None
        share = (self.prices[within] / np.asarray(limits)).max(axis=1)
        at = within[np.lexsort((share, self.damages[within]))[0]]
        return tuple(self.plans[at].tolist())

    def least(self) -> Numbers:
        """Returns the lowest price of each measure that was found."""
        return np.asarray(self.prices.min(axis=0))

    def curve(self, measure: int = 0) -> list[tuple[float, float]]:
        """Lists (price, damage) of the undominated plans in one measure, by ascending price."""
        prices = self.prices[:, measure]
        kept = undominated(prices, self.damages)
        return list(zip(prices[kept].tolist(), self.damages[kept].tolist(), strict=True))

    def _explore(self) -> None:
        counts = [len(each) for each in self._damages]
        if prod(counts) <= _ALL:
            for first in range(0, prod(counts), _CHUNK):
                numbers = np.arange(first, min(first + _CHUNK, prod(counts)))
                places = np.unravel_index(numbers, counts) if counts else ()
                self._try(np.stack(places, axis=1) if counts else np.zeros((1, 0), np.int64))
            return
        start: Plans = np.zeros(len(counts), dtype=np.int64)
        whole = self._try(start[None])[0]
        for measure in range(len(whole)):
            for scale in self._scales(measure, whole):
                if len(self._plans) > 1 and out_of_time():  # one descent reaches every cost
                    stopped("not every way to combine changes was searched")
                    return
                cheapest = self._descend(start, scale)
                if not out_of_time():
                    self._repair(cheapest, scale)
                    self._pack(start, cheapest, scale)

    def _scales(self, measure: int, whole: Numbers) -> list[Numbers]:
        """Weighs the measures: one alone, and before the first one all of them equally."""
        alone = np.eye(len(whole))[measure]
        return [alone, 1 / whole] if measure == 0 and len(whole) > 1 else [alone]

    def _try(self, plans: Plans) -> Numbers:
        """Prices plans and keeps them. Returns (plans, measures)."""
        prices = self._price(plans).reshape(len(plans), -1).astype(np.float64)
        self._plans.append(plans.astype(np.int16))  # hundreds of thousands are kept
        self._found.append((prices, self._damage(plans)))
        return prices

    def _damage(self, plans: Plans) -> Numbers:
        total = np.zeros(len(plans))
        for place, each in enumerate(self._damages):
            total += each[plans[:, place]]
        return total

    def _neighbours(self, plan: Plans, scale: Numbers) -> tuple[Plans, Numbers, Numbers]:
        """Prices every plan that differs in one choice. Returns plans, savings, added damages."""
        places, options = self._singles
        plans = np.tile(plan, (len(places) + 1, 1))
        plans[np.arange(len(places)), places] = options  # the last is the plan itself
        costs, damages = self._try(plans) @ scale, self._damage(plans)
        saved, added = costs[-1] - costs[:-1], damages[:-1] - damages[-1]
        # the price of one plan may differ by rounding from row to row: that is no saving
        saved[np.abs(saved) <= _HAIR * np.abs(costs[-1])] = 0.0
        added[np.abs(added) <= _HAIR * damages[-1]] = 0.0
        return plans[:-1], saved, added

    def _descend(self, plan: Plans, scale: Numbers) -> Plans:
        """Takes the change of least damage per saving until nothing saves (rule 1)."""
        while True:
            plans, saved, damage = self._neighbours(plan, scale)
            saves = saved > 0
            if not saves.any():
                return plan
            rate = np.where(saves, damage / np.where(saves, saved, 1), np.inf)
            plan = np.asarray(plans[np.lexsort((-saved, rate))[0]])

    def _repair(self, plan: Plans, scale: Numbers) -> None:
        """Takes the change that repairs most damage per cost until none does (rule 2)."""
        while True:
            plans, saved, damage = self._neighbours(plan, scale)
            repairs = damage < 0
            if not repairs.any():
                return
            rate = np.where(repairs, -damage / np.maximum(-saved, 1e-300), -np.inf)
            plan = np.asarray(plans[np.argmax(rate)])

    def _pack(self, start: Plans, cheapest: Plans, scale: Numbers) -> None:
        """Solves knapsacks around plans for some costs between (rule 3)."""
        high, low = self._try(np.stack([start, cheapest])) @ scale
        for target in np.linspace(low, high, _TARGETS + 2)[1:-1].tolist():
            plan = self._within(target, scale)
            for _ in range(_ROUNDS):
                found = self._packed(plan, target, scale)
                if found is None or np.array_equal(found, plan):
                    break
                plan = found

    def _packed(self, plan: Plans, target: float, scale: Numbers) -> Plans | None:
        """Solves the knapsack around one plan; returns the best plan within a cost."""
        _, saved, _ = self._neighbours(plan, scale)
        places, options = self._singles
        costs = [np.zeros(len(each)) for each in self._damages]
        for place, option, saving in zip(places, options, saved, strict=True):
            costs[place][option] = -saving
        plans, _, _ = knapsack(self._damages, costs)
        prices = self._try(plans) @ scale
        good = np.flatnonzero(prices <= target)
        if not len(good):
            return None
        return np.asarray(plans[good[np.argmin(self._damage(plans[good]))]])

    def _within(self, target: float, scale: Numbers) -> Plans:
        """Returns the least damaging plan within a cost, of those found so far."""
        best = self._plans[0][0]
        least = np.inf
        for plans, (prices, damages) in zip(self._plans, self._found, strict=True):
            good = np.where(prices @ scale <= target, damages, np.inf)
            if good.min(initial=np.inf) < least:
                best, least = plans[good.argmin()], float(good.min())
        return np.asarray(best, dtype=np.int64)


def _singles(damages: Sequence[Numbers]) -> tuple[Plans, Plans]:
    """Lists every (choice, option)."""
    places = np.repeat(np.arange(len(damages)), [len(each) for each in damages])
    options = [i for each in damages for i in range(len(each))]
    return places.astype(np.int64), np.array(options, dtype=np.int64)
