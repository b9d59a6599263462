"""What a program costs: multiply-accumulates, parameters and bytes, from shapes alone."""

from gfx.costing.aiming import Aim
from gfx.costing.budget import Budget, overrun
from gfx.costing.cost import Cost, Macs, NodeCost, human
from gfx.costing.count import cost_of
from gfx.costing.limits import check_spec, parse_budget
from gfx.costing.meter import Foreseen, Meter, Reading, verdict
from gfx.costing.stopwatch import Stopwatch

__all__ = [
    "Aim",
    "Budget",
    "Cost",
    "Foreseen",
    "Macs",
    "Meter",
    "NodeCost",
    "Reading",
    "Stopwatch",
    "check_spec",
    "cost_of",
    "human",
    "overrun",
    "parse_budget",
    "verdict",
]
