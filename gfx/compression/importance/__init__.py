"""Scores the channels of groups: the least important is removed first."""

from gfx.compression.importance.aggregate import Reduce, Scores
from gfx.compression.importance.ranking import Importance, needs_data, notes, rank

__all__ = ["Importance", "Reduce", "Scores", "needs_data", "notes", "rank"]
