"""Which channels go: by ratio, by exact widths, by kept indices, or until a budget is met."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gfx.costing import Budget, Cost, human
from gfx.coupling import Group, Groups
from gfx.coupling.labels import Ids
from gfx.errors import BudgetError
from gfx.importance import Scores
from gfx.pricing import Pricing

__all__ = ["Scope", "Selection"]

Scope = Literal["local", "global"]
Mask = NDArray[np.bool_]

_NEAR = 0.995  # of the budget: no trades are needed from here on
_MOST_TRADED = 64  # groups; every pair of them is tried


@dataclass
class Selection:
    """Chooses channels among some groups of a program.

    Whatever is asked, a group keeps at least one channel, and its least important go first.
    """

    groups: Groups
    among: tuple[Group, ...]  # the groups that may be narrowed
    scores: dict[str, Scores]  # by group name
    round_to: int = 1  # kept channels are a multiple of this, unless all are kept
    scope: Scope = "local"
    order: dict[str, Ids] = field(init=False)  # by group name: channels, the first to go first

    def __post_init__(self) -> None:
        # of equal scores the last channel goes first, as slicing would have it
        self.order = {
            g.name: np.lexsort((-np.arange(g.size), self.scores[g.name])) for g in self.among
        }

    def by_ratio(self, ratio: float) -> Mask:
        """Removes a share of each group (local), or of all channels together (global)."""
        if self.scope == "local":
            return self.by_counts([g.size - int(g.size * ratio + 1e-9) for g in self.among])
        sequence = self._sequence()
        total = sum(g.size for g in self.among)
        return self.by_counts(self._counts(sequence[: int(total * ratio + 1e-9)]))

    def by_counts(self, kept: Sequence[int] | Ids) -> Mask:
        """Removes the least important channels of each group down to the numbers kept."""
        removed = self.groups.none_removed()
        for group, count in zip(self.among, self._rounded(np.asarray(kept)), strict=True):
            removed[group.roots[self.order[group.name][: group.size - count]]] = True
        return removed

    def by_budget(self, budgets: Sequence[Budget], cost: Cost) -> Mask:
        """Removes as little as meets every budget.

        The channels go in the order of their importance until the budgets are met; then what
        rounding took too much is given back, largest step first.

        Raises: BudgetError with the nearest value that can be reached, and what stands in the way.
        """
        pricing = Pricing(self.groups, cost)
        sequence = self._sequence()

        def met(count: int) -> bool:
            kept = self._rounded(self._counts(sequence[:count]))
            return bool(self._fits(pricing, kept[None], budgets)[0])

        if not met(len(sequence)):
            self._refuse(pricing, budgets)
        low, high = -1, len(sequence)  # met(high) holds, met(low) does not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if met(middle) else (middle, high)
        kept = self._rounded(self._counts(sequence[:high]))
        kept = self._given_back(pricing, kept, budgets)
        return self.by_counts(self._traded(pricing, kept, budgets))

    def _sequence(self) -> Ids:
        """Lists group numbers in the order in which their channels go; one channel stays."""
        keys, owners = [], []
        for i, group in enumerate(self.among):
            going = self.order[group.name][:-1]
            if self.scope == "global":
                # a channel must not go before one of its own group that matters less
                keys.append(np.maximum.accumulate(self.scores[group.name][going]))
            else:
                keys.append((np.arange(len(going)) + 1) / group.size)
            owners.append(np.full(len(going), i))
        if not owners:
            return np.zeros(0, dtype=np.int64)
        return np.asarray(np.concatenate(owners)[np.argsort(np.concatenate(keys), kind="stable")])

    def _counts(self, sequence: Ids) -> Ids:
        sizes = np.array([g.size for g in self.among], dtype=np.int64)
        return np.asarray(sizes - np.bincount(sequence, minlength=len(sizes)), dtype=np.int64)

    def _rounded(self, kept: Ids) -> Ids:
        sizes = np.array([g.size for g in self.among], dtype=np.int64)
        up = -(-np.maximum(kept, 1) // self.round_to) * self.round_to
        return np.asarray(np.minimum(up, sizes), dtype=np.int64)

    def _widths(self, pricing: Pricing, kept: Ids) -> Ids:
        """Spreads counts of the chosen groups over all free groups, which the pricing knows."""
        column = {g.name: i for i, g in enumerate(pricing.groups)}
        full = np.array([g.size for g in pricing.groups], dtype=np.int64)
        table = np.tile(full, (len(kept), 1))
        table[:, [column[g.name] for g in self.among]] = kept
        return table

    def _fits(self, pricing: Pricing, kept: Ids, budgets: Sequence[Budget]) -> Mask:
        widths = self._widths(pricing, kept)
        fits = np.ones(len(kept), dtype=np.bool_)
        for budget in budgets:
            fits &= np.rint(pricing.value(widths, budget)) <= budget.limit
        return fits

    def _given_back(self, pricing: Pricing, kept: Ids, budgets: Sequence[Budget]) -> Ids:
        """Gives channels back to the groups while the budgets are still met."""
        sizes = np.array([g.size for g in self.among], dtype=np.int64)
        while True:
            steps = np.tile(kept, (len(kept), 1))
            np.fill_diagonal(steps, np.minimum(kept + self.round_to, sizes))
            grows = steps.diagonal() > kept
            fits = self._fits(pricing, steps, budgets) & grows
            if not fits.any():
                return kept
            prices = pricing.value(self._widths(pricing, steps), budgets[0])
            kept = steps[np.argmax(np.where(fits, prices, -np.inf))]

    def _traded(self, pricing: Pricing, kept: Ids, budgets: Sequence[Budget]) -> Ids:
        """Gives one group a step for a smaller step of another, where that comes nearer the budget.

        Steps of `round_to` channels are coarse in small models.
        """
        count = len(kept)
        if count > _MOST_TRADED:
            return kept
        sizes = np.array([g.size for g in self.among], dtype=np.int64)
        up, down = (step.ravel() for step in np.meshgrid(range(count), range(count)))
        for _ in range(_MOST_TRADED):
            reached = pricing.value(self._widths(pricing, kept[None]), budgets[0])[0]
            if reached >= _NEAR * budgets[0].limit:
                break
            trades = np.tile(kept, (len(up), 1))
            rows = np.arange(len(up))
            trades[rows, up] = np.minimum(kept[up] + self.round_to, sizes[up])
            trades[rows, down] = self._rounded(np.maximum(kept - self.round_to, 1))[down]
            prices = pricing.value(self._widths(pricing, trades), budgets[0])
            better = self._fits(pricing, trades, budgets) & (up != down) & (prices > reached)
            if not better.any():
                break
            kept = trades[np.argmax(np.where(better, prices, -np.inf))]
        return kept

    def _refuse(self, pricing: Pricing, budgets: Sequence[Budget]) -> None:
        least = self._rounded(np.ones(len(self.among), dtype=np.int64))
        widths = self._widths(pricing, least[None])
        pinned = dict.fromkeys(g.pinned for g in self.groups if g.pinned)
        reasons = "; ".join(list(pinned)[:4]) or "nothing is pinned"
        for budget in budgets:
            reached = float(np.rint(pricing.value(widths, budget)[0]))
            if reached > budget.limit:
                raise BudgetError(
                    f"channel_prune: the budget on {budget.name} is {human(budget.limit)}, and "
                    f"with every free group at its smallest (round_to={self.round_to}) it is "
                    f"{human(reached)}, {human(reached - budget.limit)} too much; raise the "
                    f"budget, lower round_to or free more layers. What stands in the way: {reasons}"
                )
