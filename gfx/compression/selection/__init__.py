"""Selects the channels to remove, and records the selection."""

from gfx.compression.selection.bounds import MIN_CHANNELS, Bounds, GroupBounds
from gfx.compression.selection.by_name import by_kept, by_widths, narrow_to
from gfx.compression.selection.candidate_groups import by_stages, candidates, unrounded
from gfx.compression.selection.removal_advice import said_reasons, what_stands
from gfx.compression.selection.removal_record import record
from gfx.compression.selection.selection import Scope, Selection, isomorphic
from gfx.compression.selection.weakest_channels import removal, weakest

__all__ = [
    "MIN_CHANNELS",
    "Bounds",
    "GroupBounds",
    "Scope",
    "Selection",
    "by_kept",
    "by_stages",
    "by_widths",
    "candidates",
    "isomorphic",
    "narrow_to",
    "record",
    "removal",
    "said_reasons",
    "unrounded",
    "weakest",
    "what_stands",
]
