"""Where masks go in a program, and what the weights say of each entry."""

from gfx.compression.masks.element_masks import candidates, fours, mask_elements
from gfx.compression.masks.group_masks import GroupMasks, MaskSettings

__all__ = ["GroupMasks", "MaskSettings", "candidates", "fours", "mask_elements"]
