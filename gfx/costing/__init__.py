"""What a program costs: multiply-accumulates, parameters and bytes, from shapes alone."""

from gfx.costing.budget import Budget, check_spec, parse_budget
from gfx.costing.cost import Cost, Macs, NodeCost, human
from gfx.costing.count import cost_of

__all__ = [
    "Budget",
    "Cost",
    "Macs",
    "NodeCost",
    "check_spec",
    "cost_of",
    "human",
    "parse_budget",
]
