"""Which channels go: by ratio, or until budgets are met; and how that is told."""

from gfx.selection.bounds import Bounds
from gfx.selection.choose import Selection
from gfx.selection.pools import Scope, isomorphic
from gfx.selection.record import record
from gfx.selection.timed import Timed

__all__ = ["Bounds", "Scope", "Selection", "Timed", "isomorphic", "record"]
