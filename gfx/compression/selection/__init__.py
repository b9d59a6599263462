"""Which channels go: by ratio, or until budgets are met; and how that is told."""

from gfx.compression.selection.bounds import Bounds
from gfx.compression.selection.removal_record import record
from gfx.compression.selection.selection import Scope, Selection, isomorphic
from gfx.compression.selection.weakest_channels import weakest

__all__ = ["Bounds", "Scope", "Selection", "isomorphic", "record", "weakest"]
