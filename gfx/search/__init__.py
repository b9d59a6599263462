"""Finds the widths and forms that meet budgets: by least damage, or in the order of importance."""

from gfx.search.aim import Aim
from gfx.search.budget_limits import Limits, absolute, resolve_limits
from gfx.search.choices import Choice, Option, monotone
from gfx.search.decision import ChoiceSearch, decide
from gfx.search.measured_search import MeasuredSearch
from gfx.search.measured_widths import plan_widths
from gfx.search.multiple_choice import knapsack
from gfx.search.offers import Narrowed, Offer, choices_of, decide_alone, decide_offers
from gfx.search.pareto import ParetoFront
from gfx.search.plan import Decision, Plan, rewritten
from gfx.search.plan_costs import PlanCosts

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
