"""Finds how many channels each group keeps so that budgets are met closely, from below."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gfx.compression.selection import Bounds, Selection, what_stands
from gfx.costs import Budget
from gfx.coupling.labels import Ids
from gfx.errors import BudgetError
from gfx.planning.channel_order import removal_order
from gfx.planning.local_search import nearest
from gfx.planning.multiple_choice import Numbers
from gfx.planning.width_costs import WidthCosts

__all__ = ["WidthSearch"]

_NEAR = 0.995  # of the budget: trading ends here
_AIM = 0.01  # the search aims at least this close, even if the tolerance is larger
_MOST_TRADED = 64  # groups; every pair of them is tried


@dataclass
class WidthSearch:
    """Searches the numbers of kept channels of some groups, in the order of importance.

    The fill of a configuration is the largest share of any budget that it takes: up to 1, all
    budgets are met.
    """

    selection: Selection  # the groups, and the order of their channels
    costs: WidthCosts  # of each budget's measure
    budgets: Sequence[Budget]
    bounds: Bounds
    tolerance: float  # how far below every budget the result may end

    def __post_init__(self) -> None:
        self.among, self.sizes = self.selection.among, self.selection.sizes
        self.limits = self.bounds.of(self.among)
        self._columns = [self.costs.columns[group.name] for group in self.among]

    def kept(self) -> Ids:
        """Removes channels until every budget is met, and returns how many each group keeps.

        Channels that rounding removed needlessly are then given back, steps are traded between
        groups, and if the result is still too far below, configurations around it are tried.

        Raises: BudgetError if no configuration that was tried ends within the tolerance.
        """
        sequence = removal_order(self.selection, self.bounds, self.shares)
        least = self.limits.least
        if self.fill(least[None])[0] > 1:
            raise self.out_of_reach(least)
        if not self.among:
            return least
        low, high = -1, len(sequence)  # high meets the budgets, low does not
        while high - low > 1:
            middle = (low + high) // 2
            met = self.fill(self._taken(sequence[:middle])[None])[0] <= 1
            low, high = (low, middle) if met else (middle, high)
        kept = self._traded(self._given_back(self._taken(sequence[:high])))
        aim = min(self.tolerance, _AIM)
        if self.fill(kept[None])[0] >= 1 - aim:
            return kept
        below, above = nearest(self.fill, kept, self.limits.levels(), aim)
        if self.fill(below[None])[0] < 1 - self.tolerance:
            self._too_coarse(below, above)
        return below

    def fill(self, kept: Ids) -> Numbers:
        """Returns the largest share that each configuration takes of any budget.

        Shapes: kept (configurations, groups that may be narrowed).
        """
        shares: Numbers = self.shares(kept).max(axis=1, initial=0)
        return shares

    def shares(self, kept: Ids) -> Numbers:
        """Returns the share that each configuration takes of each budget.

        Shapes: kept (configurations, groups that may be narrowed) -> (configurations, budgets).
        """
        values = self.values(kept)
        limits = np.array([budget.limit for budget in self.budgets])
        shares = values / limits
        # a quotient may round to 1 on either side
        over = np.maximum(shares, np.nextafter(1, 2))
        return np.asarray(np.where(values <= limits, np.minimum(shares, 1), over))

    def values(self, kept: Ids) -> Numbers:
        """Returns the costs of configurations, in the unit of each budget.

        Shapes: kept (configurations, groups that may be narrowed) -> (configurations, budgets).
        """
        table = np.tile(self.costs.full, (len(kept), 1))
        table[:, self._columns] = kept
        return self.costs(table)

    def _taken(self, sequence: Ids) -> Ids:
        gone = np.bincount(sequence, minlength=len(self.sizes))
        return self.limits.rounded(self.sizes - gone)

    def _given_back(self, kept: Ids) -> Ids:
        """Gives channels back to the groups while the budgets are still met.

        Groups for which a step costs nothing get one at the same time, where that fits.
        """
        while True:
            steps = np.tile(kept, (len(kept) + 1, 1))
            np.fill_diagonal(steps, np.minimum(kept + self.limits.strides, self.sizes))
            steps[:-1] = self.limits.rounded(steps[:-1])
            fills = self.fill(steps)
            fits = (fills <= 1) & (steps > kept).any(axis=1)
            if not fits.any():
                return kept
            best = steps[np.argmax(np.where(fits, fills, -1))]
            costless = fits & (fills <= fills[-1])
            if costless.sum() > 1:
                together = np.where(costless[:-1], steps[:-1].diagonal(), kept)
                best = together if self.fill(together[None])[0] <= 1 else best
            kept = best

    def _traded(self, kept: Ids) -> Ids:
        """Trades a step of one group for a smaller step of another where that is nearer a budget.

        Steps of `round_to` channels are coarse in small models.
        """
        count = len(kept)
        if count > _MOST_TRADED:
            return kept
        up, down = (step.ravel() for step in np.meshgrid(range(count), range(count)))
        rows = np.arange(len(up))
        for _ in range(_MOST_TRADED):
            reached = self.fill(kept[None])[0]
            if reached >= _NEAR:
                break
            trades = np.tile(kept, (len(up), 1))
            trades[rows, up] = kept[up] + self.limits.strides[up]
            trades[rows, down] = kept[down] - self.limits.strides[down]
            trades = self.limits.rounded(trades)
            fills = self.fill(trades)
            better = (fills <= 1) & (up != down) & (fills > reached)
            if not better.any():
                break
            kept = trades[np.argmax(np.where(better, fills, -1))]
        return kept

    def out_of_reach(self, least: Ids, values: Sequence[float] | None = None) -> BudgetError:
        """Makes the error with the least cost that can be reached.

        Args:
            least: the fewest channels that the groups may keep.
            values: its cost in the unit of each budget, if it was measured.
        """
        budget, value = self._fullest(least, values)
        smallest = self._smallest(self.bounds)
        looser = self._looser(lambda bounds: bool((self._smallest(bounds) < smallest).any()))
        return BudgetError(
            f"the budget on {budget.name} is {budget.said(budget.limit)}, and with every "
            f"free group at its smallest ({self.bounds}) it is {budget.said(value)}, "
            f"{budget.said(value - budget.limit)} too much; raise the budget"
            f"{f', or {looser}' if looser else ''}. "
            f"What stands in the way: {self._pinned(budget, least)}"
        )

    def _too_coarse(self, below: Ids, above: Ids | None) -> None:
        budget, value = self._fullest(below)
        over = "nothing above"
        if above is not None:
            other, more = self._fullest(above)
            over = f"{other.said(more)} ({100 * more / other.limit:.2f} %) above"
            over += f" (of {other.name})" if other is not budget else ""
        # rounded up, so that what is suggested is enough
        enough = np.ceil(1000 * (1 - value / budget.limit)) / 1000
        steps = ", ".join(f"{g.name} ({g.width})" for g in self.among[:4]) or "none"
        steps += f" and {len(self.among) - 4} more" if len(self.among) > 4 else ""
        looser = self._looser(self._finer)
        raise BudgetError(
            f"the budget on {budget.name} is {budget.said(budget.limit)}, and the "
            f"nearest that can be reached is {budget.said(value)} "
            f"({100 * value / budget.limit:.2f} %) below and "
            f"{over}, not within tolerance={self.tolerance} of it: widths move in steps "
            f"({self.bounds}). To come nearer, {looser}{looser and ', or '}allow it with "
            f"tolerance={enough:g}. Free groups: {steps}. "
            f"What stands in the way: {self._pinned(budget, below)}"
        )

    def _fullest(self, kept: Ids, values: Sequence[float] | None = None) -> tuple[Budget, float]:
        """Returns the budget with the largest share taken, and its value."""
        values = self.values(kept[None])[0].tolist() if values is None else values
        return max(zip(self.budgets, values, strict=True), key=lambda pair: pair[1] / pair[0].limit)

    def _looser(self, helps: Callable[[Bounds], bool]) -> str:
        """Says which bounds to loosen, of those that help; "" if none does."""
        found = [words for words, bounds in self.bounds.looser().items() if helps(bounds)]
        alone = [words for words in found if " and " not in words]
        return " or ".join(alone) or "".join(found)

    def _finer(self, bounds: Bounds) -> bool:
        """Whether groups can be narrowed in smaller steps, or further, under other bounds."""
        among = (*self.among, *self.selection.bounded)
        now, then = self.bounds.of(among), bounds.of(among)
        return bool((then.strides < now.strides).any() or (then.least < now.least).any())

    def _smallest(self, bounds: Bounds) -> Numbers:
        """Returns the costs with every group at its smallest under other bounds."""
        among = (*self.among, *self.selection.bounded)
        table = self.costs.full.copy()
        table[[self.costs.columns[group.name] for group in among]] = bounds.of(among).least
        costs: Numbers = self.costs(table[None])[0]
        return costs

    def _pinned(self, budget: Budget, kept: Ids) -> str:
        """Lists the reasons that keep a configuration from costing less."""
        text = what_stands(self.selection.groups)
        if budget.measure != "peak_activation_bytes":
            return text
        table = self.costs.full.copy()
        table[self._columns] = kept
        return f"the peak is then at node {self.costs.pricing.peak_place(table)}; {text}"
