"""Safe edits: removing channels from tensors, modules and the graph's own literals."""

from gfx.edit.reference import masked
from gfx.edit.remove import remove
from gfx.edit.sizes import Sizes

__all__ = ["Sizes", "masked", "remove"]
