"""What a program will cost at other widths, in closed form.

Every labelled dimension's size is an affine function of the groups' widths, every node's MACs and
every tensor's elements are a constant times a product of such sizes. So a configuration is priced
by a few multiplications, and many configurations at once.
"""

import numpy as np
from numpy.typing import NDArray

from gfx.costing import Budget, Cost
from gfx.costing.cost import CONVENTIONS
from gfx.coupling import Group, Groups
from gfx.coupling.labels import Ids
from gfx.errors import BudgetError

__all__ = ["Pricing"]

Numbers = NDArray[np.float64]
_MACS = tuple(CONVENTIONS.values())


class Pricing:
    """Prices configurations of a program's free groups.

    Example:
        >>> import gfx
        >>> from gfx.costing import cost_of
        >>> program = gfx.trace(gfx.zoo.build("dcgan"))
        >>> groups = gfx.channels(program)
        >>> pricing = Pricing(groups, cost_of(program))
        >>> full = [group.size for group in pricing.groups]
        >>> int(pricing.price([full])["params"][0])
        3576704
    """

    def __init__(self, groups: Groups, cost: Cost) -> None:
        self.groups: tuple[Group, ...] = groups.free
        self._group_of = np.full(len(groups.roots), -1, dtype=np.int64)  # by class
        for i, group in enumerate(self.groups):
            self._group_of[group.roots] = i
        self._sizes = np.array([group.size for group in self.groups], dtype=np.float64)
        self._roots = groups.roots
        self._affine: list[tuple[Numbers, float]] = []
        self._known: dict[bytes, int] = {}
        self._macs = self._price_macs(groups, cost)
        self._params = self._price_tensors(groups, cost)

    def price(self, widths: object) -> dict[str, Numbers]:
        """Prices configurations.

        Args:
            widths: array-like (configurations, groups): kept channels of each of `self.groups`.

        Returns: an array over configurations for each of `exact`, `output`, `output_norm`,
        `params`, `param_bytes`.
        """
        table = np.atleast_2d(np.asarray(widths, dtype=np.float64))
        slopes = np.array([slope for slope, _ in self._affine]).reshape(-1, table.shape[1])
        sizes = table @ slopes.T + np.array([constant for _, constant in self._affine])
        sizes = np.concatenate([sizes, np.ones((len(table), 1))], axis=1)  # the empty factor
        prices: dict[str, Numbers] = {}
        for (factors, weights, fixed), names in (
            (self._macs, _MACS),
            (self._params, ("params", "param_bytes")),
        ):
            products = sizes[:, factors].prod(axis=2)  # (configurations, terms)
            totals = products @ weights + fixed
            prices.update(zip(names, totals.T, strict=True))
        return prices

    def value(self, widths: object, budget: Budget) -> Numbers:
        """Prices configurations in the unit of a budget.

        Raises: BudgetError for a measure that has no closed form.
        """
        prices = self.price(widths)
        key = CONVENTIONS[budget.convention] if budget.measure == "macs" else budget.measure
        if key not in prices:
            raise BudgetError(
                f"widths cannot be searched for a budget on {budget.measure} yet; give a ratio or "
                "widths, and the budget is checked at the end"
            )
        return prices[key]

    def _price_macs(self, groups: Groups, cost: Cost) -> tuple[Ids, Numbers, Numbers]:
        factors_of = {node.name: ids for node, ids in groups.flow.factors.items()}
        rows, weights, fixed = [], [], np.zeros(len(_MACS))
        for row in cost.nodes:
            macs = np.array([getattr(row.macs, name) for name in _MACS], dtype=np.float64)
            if not macs.any():
                continue
            factors = [self._factor(ids) for ids in factors_of.get(row.node, [])]
            if not factors:
                fixed += macs
                continue
            sizes = np.prod([len(ids) for ids in factors_of[row.node]], dtype=np.float64)
            rows.append(factors)
            weights.append(macs / sizes)
        return self._terms(rows, weights, fixed)

    def _price_tensors(self, groups: Groups, cost: Cost) -> tuple[Ids, Numbers, Numbers]:
        parameters = dict(groups.flow.program.module.named_parameters(remove_duplicate=False))
        rows, weights = [], []
        fixed = np.array([cost.params, cost.param_bytes], dtype=np.float64)
        for path, axes in groups.flow.axes.items():
            labelled = [axis for axis in axes if axis is not None]
            if path not in parameters or not labelled:
                continue
            value = parameters[path]
            each = np.array([1.0, value.element_size()])
            fixed -= value.numel() * each
            rows.append([self._factor(axis.ids) for axis in labelled])
            weights.append(each * value.numel() / np.prod([axis.size for axis in labelled]))
        return self._terms(rows, weights, fixed)

    def _terms(
        self, rows: list[list[int]], weights: list[Numbers], fixed: Numbers
    ) -> tuple[Ids, Numbers, Numbers]:
        """Pads every product to the same number of factors."""
        width = max((len(row) for row in rows), default=1)
        factors = np.full((len(rows), width), -1, dtype=np.int64)  # -1: the empty factor
        for i, row in enumerate(rows):
            factors[i, : len(row)] = row
        return factors, np.array(weights).reshape(len(rows), len(fixed)), fixed

    def _factor(self, ids: Ids) -> int:
        """Returns the number of the affine function that gives a dimension's size."""
        owner = self._group_of[self._roots[ids]]
        counts = np.bincount(owner[owner >= 0], minlength=len(self.groups)).astype(np.float64)
        slope, constant = counts / self._sizes, float((owner < 0).sum())
        key = slope.tobytes() + np.float64(constant).tobytes()
        if key not in self._known:
            self._known[key] = len(self._affine)
            self._affine.append((slope, constant))
        return self._known[key]
