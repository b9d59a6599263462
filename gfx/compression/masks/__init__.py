"""Where masks go in a program, and what the weights say of each entry."""

from gfx.compression.masks.element_masks import candidates, fours, mask_elements
from gfx.compression.masks.place import MaskPlace, Placement, mount, refusal
from gfx.compression.masks.writers import CONVS, LAYERS, norms_of, outputs, writers_of

__all__ = [
    "CONVS",
    "LAYERS",
    "MaskPlace",
    "Placement",
    "candidates",
    "fours",
    "mask_elements",
    "mount",
    "norms_of",
    "outputs",
    "refusal",
    "writers_of",
]
