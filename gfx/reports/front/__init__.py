"""Searches for a front of smaller generators, and shows it: `gfx.search`, front.html."""

from gfx.reports.front.front_search import FrontSearch
from gfx.reports.front.search_model import search

__all__ = ["FrontSearch", "search"]
