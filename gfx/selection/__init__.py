"""Which channels go: by ratio, or until budgets are met; and how that is told."""

from gfx.selection.bounds import Bounds
from gfx.selection.choose import Selection
from gfx.selection.pools import Scope, isomorphic
from gfx.selection.record import record

__all__ = ["Bounds", "Scope", "Selection", "isomorphic", "record"]
