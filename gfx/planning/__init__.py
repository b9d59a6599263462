"""Finds the widths and forms that meet budgets: by least damage, or in the order of importance."""

from gfx.planning.aim import Aim
from gfx.planning.budget_limits import Limits, absolute, resolve_limits
from gfx.planning.choices import Choice, Option, monotone
from gfx.planning.decision import ChoiceSearch, decide
from gfx.planning.measured_search import MeasuredSearch
from gfx.planning.measured_widths import plan_widths
from gfx.planning.multiple_choice import knapsack
from gfx.planning.offers import Narrowed, Offer, choices_of, decide_alone, decide_offers
from gfx.planning.pareto import ParetoFront
from gfx.planning.plan import Decision, Plan, rewritten
from gfx.planning.plan_costs import PlanCosts

__all__ = [
    "Aim",
    "Choice",
    "ChoiceSearch",
    "Decision",
    "Limits",
    "MeasuredSearch",
    "Narrowed",
    "Offer",
    "Option",
    "ParetoFront",
    "Plan",
    "PlanCosts",
    "absolute",
    "choices_of",
    "decide",
    "decide_alone",
    "decide_offers",
    "knapsack",
    "monotone",
    "plan_widths",
    "resolve_limits",
    "rewritten",
]
