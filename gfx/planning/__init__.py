"""Decides which layers are written another way, and which groups narrowed, for the least damage."""

from gfx.planning.costs import Costs
from gfx.planning.frontier import Frontier
from gfx.planning.inputs import Inputs
from gfx.planning.knapsack import knapsack
from gfx.planning.layers import Layer, Priced, layers_of, obstacle, price, unlayered
from gfx.planning.options import Choice, Option, monotone
from gfx.planning.where import Condition, named

__all__ = [
    "Choice",
    "Condition",
    "Costs",
    "Frontier",
    "Inputs",
    "Layer",
    "Option",
    "Priced",
    "knapsack",
    "layers_of",
    "monotone",
    "named",
    "obstacle",
    "price",
    "unlayered",
]
