"""Filters: which examples a step sees, and which of them count: `data: labelled` of a fit.

Each is a frozen dataclass, found by the entry point `gfx.filters` as terms are by `gfx.terms`.
"""

from gfx.train.filters.example_filter import Filter
from gfx.train.filters.filter_registry import filters, read_filter
from gfx.train.filters.label_filters import Labelled, Unlabelled

FILTERS = (Labelled, Unlabelled)

__all__ = ["FILTERS", "Filter", "Labelled", "Unlabelled", "filters", "read_filter"]
