"""Safe edits: removing channels from tensors, modules and the graph's own literals."""

from gfx.coupling.removal.masked_reference import masked
from gfx.coupling.removal.new_sizes import Sizes
from gfx.coupling.removal.remove_channels import narrowed, remove

__all__ = ["Sizes", "masked", "narrowed", "remove"]
