"""Scores the channels of groups: what matters least goes first."""

from gfx.importance.layers import Reduce, Scores
from gfx.importance.ranking import Importance, needs_data, notes, rank

__all__ = ["Importance", "Reduce", "Scores", "needs_data", "notes", "rank"]
