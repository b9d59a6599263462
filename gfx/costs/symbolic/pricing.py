"""Computes a program's cost at other widths in closed form.

Every labelled dimension's size is an affine function of the groups' widths; the MACs of a node,
the elements of a tensor and the bytes alive at a place are sums of products of such sizes. So a
configuration is priced by a few multiplications, and many configurations at once.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx

from gfx.costs.budget import Budget
from gfx.costs.cost import CONVENTIONS, Cost
from gfx.costs.symbolic.macs import work
from gfx.costs.symbolic.peak_memory import Peak
from gfx.costs.symbolic.polynomials import Terms
from gfx.costs.symbolic.sizes import Number, Symbols
from gfx.coupling import Group, Groups

__all__ = ["Pricing"]

_SUMS = (*CONVENTIONS.values(), "params", "param_bytes")
_PEAK = "peak_activation_bytes"


class Pricing:
    """Prices configurations of a program's free groups.

    The prices are those of `gfx.cost` of the really pruned program, to the last digit.

    Example:
        >>> import gfx
        >>> from gfx.costs import cost_of
        >>> program = gfx.trace(gfx.zoo.build("dcgan"))
        >>> groups = gfx.channels(program)
        >>> pricing = Pricing(groups, cost_of(program))
        >>> full = [group.size for group in pricing.groups]
        >>> prices = pricing.price([full])
        >>> int(prices["params"][0]), int(prices["peak_activation_bytes"][0])
        (3576704, 524288)
    """

    def __init__(self, groups: Groups, cost: Cost) -> None:
        self.groups: tuple[Group, ...] = groups.free
        self._symbols = Symbols(groups)
        macs: list[Number] = [0, 0, 0]
        for _, found in self._macs(cost):
            macs = [a + b for a, b in zip(macs, found, strict=True)]
        self._sums = Terms(self._symbols, [*macs, *self._parameters(cost)])

    def price(self, widths: object) -> dict[str, NDArray[np.int64]]:
        """Prices configurations in every measure.

        Args:
            widths: array-like (configurations, groups): kept channels of each of `self.groups`,
                from 1 to the group's size.

        Returns: an array over configurations for each of `exact`, `output`, `output_norm` (MACs),
        `params`, `param_bytes`, `peak_activation_bytes`.
        """
        table = _table(widths)
        prices = dict(zip(_SUMS, self._sums(table), strict=True))
        prices[_PEAK] = self._peak(table)
        return prices

    def value(self, widths: object, budget: Budget) -> NDArray[np.int64]:
        """Prices configurations in the unit of a budget."""
        if budget.measure == _PEAK:
            return self._peak(_table(widths))
        name = CONVENTIONS[budget.convention] if budget.measure == "macs" else budget.measure
        values: NDArray[np.int64] = self._sums(_table(widths))[_SUMS.index(name)]
        return values

    def peak_place(self, widths: object) -> str:
        """Returns the name of the node at which one configuration takes the most memory."""
        return self._peak.place(_table(widths)[0])

    @cached_property
    def _peak(self) -> Peak:
        return Peak(self._symbols)

    def _macs(self, cost: Cost) -> Iterator[tuple[fx.Node, Sequence[Number]]]:
        """Yields the nodes that multiply, and their MACs in each convention."""
        nodes = {node.name: node for node in self._symbols.groups.program.nodes()}
        for row in cost.nodes:
            if row.macs.output_norm or row.macs.exact:
                yield nodes[row.node], work(self._symbols, nodes[row.node], row)

    def _parameters(self, cost: Cost) -> tuple[Number, Number]:
        groups = self._symbols.groups
        held: dict[str, Any] = dict(groups.program.module.named_parameters(remove_duplicate=False))
        count: Number = cost.params
        size: Number = cost.param_bytes
        for path in groups.axes:
            if path in held:
                each, before = held[path].element_size(), held[path].numel()
                elements = prod(self._symbols.tensor(path))
                count = count + elements + -before
                size = size + elements * each + -before * each
        for _, elements, each in self._stored():
            count = count + elements
            size = size + elements * each
        return count, size

    def _stored(self) -> Iterator[tuple[fx.Node, Number, int]]:
        """Yields the weights that are stored as parameters: node, elements, bytes of each."""
        groups = self._symbols.groups
        constants = groups.constants
        for node in constants.weights - constants.own - constants.learning:
            elements = prod(self._symbols.shape(groups.value_of(node))) * self._symbols.stored(node)
            yield node, elements, node.meta["val"].element_size()


def _table(widths: object) -> NDArray[Any]:
    return np.atleast_2d(np.asarray(widths))
