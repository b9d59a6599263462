"""Decides which layers are written another way, and which groups narrowed, for the least damage."""

from gfx.search.aim import Aim
from gfx.search.choices import Choice, Option, monotone
from gfx.search.decision import Decision, decide, removal, rewritten
from gfx.search.measured_widths import MeasuredWidths
from gfx.search.multiple_choice import knapsack
from gfx.search.offers import Narrowed, Offer, few_ranks, narrowings, survey, together
from gfx.search.pareto import Pareto
from gfx.search.plan_costs import Costs

__all__ = [
    "Aim",
    "Choice",
    "Costs",
    "Decision",
    "MeasuredWidths",
    "Narrowed",
    "Offer",
    "Option",
    "Pareto",
    "decide",
    "few_ranks",
    "knapsack",
    "monotone",
    "narrowings",
    "removal",
    "rewritten",
    "survey",
    "together",
]
