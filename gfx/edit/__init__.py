"""Safe edits: removing channels from tensors, modules and the graph's own literals."""

from gfx.edit.narrowing import narrowed
from gfx.edit.pieces import Pieces
from gfx.edit.reference import masked
from gfx.edit.remove import remove
from gfx.edit.sizes import Sizes
from gfx.edit.split import split

__all__ = ["Pieces", "Sizes", "masked", "narrowed", "remove", "split"]
