"""Decides which layers are written another way, and which groups narrowed, for the least damage."""

from gfx.planning.choosing import Chosen, Names, choose
from gfx.planning.costs import Costs
from gfx.planning.deciding import Decision, decide
from gfx.planning.frontier import Frontier
from gfx.planning.inputs import Inputs
from gfx.planning.layers import Layer, Priced, layers_of, obstacle, price, unlayered
from gfx.planning.measure import Damages
from gfx.planning.offers import Narrowed, Offer, narrowings, together
from gfx.planning.options import Choice, Option, monotone
from gfx.planning.packing import knapsack
from gfx.planning.parts import kernel_error, parts_of, written_rank
from gfx.planning.refusals import no_gain, why_not
from gfx.planning.rewriting import removal, rewritten
from gfx.planning.surveying import few_ranks, survey
from gfx.planning.where import Condition, named
from gfx.planning.written import written_out

__all__ = [
    "Choice",
    "Chosen",
    "Condition",
    "Costs",
    "Damages",
    "Decision",
    "Frontier",
    "Inputs",
    "Layer",
    "Names",
    "Narrowed",
    "Offer",
    "Option",
    "Priced",
    "choose",
    "decide",
    "few_ranks",
    "kernel_error",
    "knapsack",
    "layers_of",
    "monotone",
    "named",
    "narrowings",
    "no_gain",
    "obstacle",
    "parts_of",
    "price",
    "removal",
    "rewritten",
    "survey",
    "together",
    "unlayered",
    "why_not",
    "written_out",
    "written_rank",
]
