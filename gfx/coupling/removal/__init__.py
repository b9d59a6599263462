"""Removes channels from tensors, modules and the literals of a graph."""

from gfx.coupling.removal.masked_reference import masked
from gfx.coupling.removal.new_sizes import Sizes
from gfx.coupling.removal.remove_channels import narrowed, remove

__all__ = ["Sizes", "masked", "narrowed", "remove"]
