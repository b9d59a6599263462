"""Computes what a program costs: multiply-accumulates, parameters and bytes, from shapes alone."""

from gfx.costs.budget import Budget, overrun
from gfx.costs.budget_syntax import check_spec, parse_budget
from gfx.costs.cost import Cost, Macs, NodeCost, human
from gfx.costs.count import cost_of
from gfx.costs.latency_reading import LatencyPredictor, Meter, Reading, verdict
from gfx.costs.latency_timer import LatencyTimer

__all__ = [
    "Budget",
    "Cost",
    "LatencyPredictor",
    "LatencyTimer",
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
