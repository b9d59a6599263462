"""What a program costs: multiply-accumulates, parameters and bytes, from shapes alone."""

from gfx.costing.budget import Budget, overrun
from gfx.costing.cost import Cost, Macs, NodeCost, human
from gfx.costing.count import cost_of
from gfx.costing.limits import check_spec, parse_budget
from gfx.costing.meter import Foreseen, Meter, Reading, verdict

__all__ = [
    "Budget",
    "Cost",
    "Foreseen",
    "Macs",
    "Meter",
    "NodeCost",
    "Reading",
    "check_spec",
    "cost_of",
    "human",
    "overrun",
    "parse_budget",
    "verdict",
]
