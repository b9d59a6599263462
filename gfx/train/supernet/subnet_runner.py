"""Holds what a supernet has beside its tensors: the subnet that is set, its code, what is used."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from gfx.costs import Budget, cost_of
from gfx.costs.symbolic.choice_pricing import ChoicePricing
from gfx.costs.symbolic.pricing import Pricing
from gfx.ir.program import Program
from gfx.train.supernet.assignments import Assignment, ElasticChoices
from gfx.train.supernet.kept_intervals import TensorPart
from gfx.train.supernet.pooled_moments import Moments
from gfx.train.supernet.subnet_graph import KnownParts, SubnetGraph
from gfx.train.supernet.subnet_plan import SubnetPlan

__all__ = ["SubnetRunner"]


class SubnetRunner:
    """Runs the subnet of a supernet that is set, and notes what is used.

    `units` are the channels that go together of each elastic group, then the numbers of the options
    that choices take.
    """

    def __init__(self, program: Program, plan: SubnetPlan, choices: ElasticChoices) -> None:
        self.program, self.plan, self.choices = program, plan, choices
        self.current: dict[str, Any] = {}
        self.units: list[int] = []
        # by the options taken, the most of each group since an optimizer stepped
        self.used: dict[tuple[int, ...], list[int]] = {}
        self.moments: dict[tuple[int, ...], Moments] = {}  # by units
        self._graphs: dict[bool, SubnetGraph] = {}  # without taps, and with
        self._stale: set[bool] = set()  # those that run at other widths
        self._parts: KnownParts = {}
        self._pricing: Pricing | None = None
        self._cheapest: dict[str, Any] = {}

    def set(self, full: dict[str, Any]) -> None:
        """Sets all choices."""
        self.current, self.units = full, self.choices.units(full)
        self._stale = set(self._graphs)

    def note_use(self, units: Sequence[int]) -> None:
        """Counts a subnet as used."""
        count = len(self.plan.elastic)
        known = self.used.setdefault(tuple(units[count:]), list(units))
        known[:] = [max(a, b) for a, b in zip(known, units, strict=True)]

    def forget_use(self) -> None:
        """Begins anew to note which subnets are used."""
        self.used = {}

    def used_parameters(self, net: nn.Module) -> dict[int, TensorPart]:
        """Returns the parts of parameters that are used, by identity; others are used whole."""
        return self.graph(net).parts_of_parameters(self.used) if self.used else {}

    def graph(self, net: nn.Module, *, taps: bool = False) -> SubnetGraph:
        """Returns what runs on the tensors of a supernet, with the choices that are set."""
        if taps not in self._graphs:
            self._graphs[taps] = SubnetGraph(self.plan, net, self._parts, taps=taps)
            self._stale.add(taps)
        if taps in self._stale:
            self._graphs[taps].set(self.units)
            self._stale.remove(taps)
        return self._graphs[taps]

    def run(self, net: nn.Module, args: Any, kwargs: Any, *, taps: bool = False) -> Any:
        """Runs the subnet that is set, and notes what is used."""
        if torch.is_grad_enabled():
            self.note_use(self.units)
        moments = {} if net.training else self.moments.get(tuple(self.units), {})
        return self.graph(net, taps=taps).run(args, kwargs, moments)

    @property
    def pricing(self) -> Pricing:
        """What prices subnets: the units of all free groups, then the numbers of options."""
        if self._pricing is None:
            groups = self.plan.groups
            kind = ChoicePricing if self.plan.choices else Pricing
            self._pricing = kind(groups, cost_of(groups.program))
        return self._pricing

    def rows(self, wanted: Sequence[Assignment]) -> Any:
        """Returns assignments as rows that `pricing` prices."""
        pricing, full = self.pricing, [group.size for group in self.pricing.groups]
        place = {group.name: i for i, group in enumerate(pricing.groups)}
        rows = []
        for each in wanted:
            row, units = list(full), self.choices.units(each)
            for group, width in zip(self.plan.elastic, units, strict=False):
                row[place[group.name]] = width
            rows.append([*row, *units[len(self.plan.elastic) :]])
        return rows

    def cheapest(self) -> dict[str, Any]:
        """Returns the smallest widths and skipped blocks, with the cheaper form of each layer."""
        if not self._cheapest:
            found = self.choices.first()
            other = [(n, each) for n, options in self.choices.options.items() for each in options]
            if other:
                tried = [found | {name: option} for name, option in other]
                macs = self.pricing.value(self.rows([found, *tried]), Budget(limit=1.0)).tolist()
                # what one choice saves, others neither save nor lose
                found |= {n: o for (n, o), m in zip(other, macs[1:], strict=True) if m < macs[0]}
            self._cheapest = found
        return dict(self._cheapest)
