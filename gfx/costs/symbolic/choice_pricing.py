"""Prices the subnets of a program with choices, each with the nodes alone that are alive in it.

Nodes and parameters are put together by when they are alive: a configuration costs the sum over
those of its classes that are, in closed form.
"""

from collections import defaultdict
from functools import cached_property, reduce
from math import prod
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx

from gfx.costs.budget import Budget
from gfx.costs.cost import CONVENTIONS, Cost
from gfx.costs.symbolic.choice_peak import ChoicePeak
from gfx.costs.symbolic.polynomials import Terms
from gfx.costs.symbolic.pricing import Pricing
from gfx.costs.symbolic.sizes import Number
from gfx.coupling import Groups
from gfx.ir.choice_nodes import ALWAYS, When, choices_of, either, holds, when_alive

__all__ = ["ChoicePricing"]

_PEAK = "peak_activation_bytes"
_SUMS = (*CONVENTIONS.values(), "params", "param_bytes")


class ChoicePricing(Pricing):
    """Prices configurations of free groups and of choices.

    A configuration has the number of an option behind its widths, for every choice in the graph's
    order. The prices are those of `gfx.cost` of the program in which these options are taken.

    Example:
        >>> import gfx
        >>> from gfx.costs import cost_of
        >>> model = gfx.zoo.build("resnet_9blocks", ngf=4, n_blocks=1, image_size=16)
        >>> net = gfx.supernet(model, widths=[0.5, 1.0], skip=True)
        >>> pricing = ChoicePricing(gfx.channels(net.program), cost_of(net.program))
        >>> full = [group.size for group in pricing.groups]
        >>> prices = pricing.price([[*full, 0], [*full, 1]])["params"]
        >>> int(prices[1] - prices[0]) == sum(p.numel() for p in model.blocks.parameters())
        True
    """

    def __init__(self, groups: Groups, cost: Cost) -> None:
        super().__init__(groups, cost)
        module = groups.program.module
        self.options = {node: len(node.args) for node in choices_of(module)}
        self._when = when_alive(module)
        totals = self._totals(cost)
        self._classes = tuple(totals)
        columns = zip(*totals.values(), strict=True)
        self._terms = {
            name: Terms(self._symbols, column) for name, column in zip(_SUMS, columns, strict=True)
        }

    def price(self, widths: object) -> dict[str, NDArray[np.int64]]:
        """Prices configurations in every measure: (configurations, groups and choices)."""
        table, options = self._parted(widths)
        here = self._held(options)
        prices = {name: self._sum(name, table, here) for name in _SUMS}
        prices[_PEAK] = self._choice_peak.at(table, options)
        return prices

    def value(self, widths: object, budget: Budget) -> NDArray[np.int64]:
        """Prices configurations in the unit of a budget."""
        table, options = self._parted(widths)
        if budget.measure == _PEAK:
            return self._choice_peak.at(table, options)
        name = CONVENTIONS[budget.convention] if budget.measure == "macs" else budget.measure
        return self._sum(name, table, self._held(options))

    def peak_place(self, widths: object) -> str:
        """Returns the name of the node at which one configuration takes the most memory."""
        table, options = self._parted(widths)
        return self._choice_peak.exact(table[0], options[0])[1]

    def _sum(self, name: str, table: NDArray[Any], here: NDArray[np.bool_]) -> NDArray[np.int64]:
        total: NDArray[np.int64] = (self._terms[name](table) * here).sum(0)
        return total

    def _parted(self, widths: object) -> tuple[NDArray[Any], NDArray[np.int64]]:
        table = np.atleast_2d(np.asarray(widths))
        count = len(self.groups)
        return table[:, :count], table[:, count:].astype(np.int64)

    def _held(self, options: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.stack([holds(when, options) for when in self._classes])

    @cached_property
    def _choice_peak(self) -> ChoicePeak:
        return ChoicePeak(self._symbols)

    def _totals(self, cost: Cost) -> dict[When, list[Number]]:
        """Adds up MACs, parameters and their bytes, by when they are alive."""
        totals: dict[When, list[Number]] = defaultdict(lambda: [0] * len(_SUMS))
        totals[ALWAYS] = [0] * len(_SUMS)
        for node, macs in self._macs(cost):
            totals[self._when[node]] = _plus(totals[self._when[node]], [*macs, 0, 0])
        groups = self._symbols.groups
        read = self._read()
        for path, parameter in groups.program.module.named_parameters():
            known = path in groups.axes
            elements: Number = prod(self._symbols.tensor(path)) if known else parameter.numel()
            when = read.get(id(parameter), ALWAYS)
            each = [0, 0, 0, elements, elements * parameter.element_size()]
            totals[when] = _plus(totals[when], each)
        for node, elements, size in self._stored():
            when = self._when[node]
            totals[when] = _plus(totals[when], [0, 0, 0, elements, elements * size])
        return dict(totals)

    def _read(self) -> dict[int, When]:
        """Returns when each parameter is read, by its identity."""
        found: dict[int, list[When]] = defaultdict(list)
        program = self._symbols.groups.program
        for node in program.nodes():
            if node.op == "call_module":
                for parameter in program.submodule(node).parameters():
                    found[id(parameter)].append(self._when[node])
            elif node.op == "get_attr":
                found[id(_held_at(program.module, str(node.target)))].append(self._when[node])
        counts = dict(enumerate(self.options.values()))
        return {key: either(each, counts) for key, each in found.items()}


def _held_at(module: fx.GraphModule, path: str) -> object:
    return reduce(getattr, path.split("."), module)


def _plus(one: list[Number], other: list[Number]) -> list[Number]:
    return list(map(add, one, other))
