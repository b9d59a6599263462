"""Where masks go in a program, and what the weights say of each entry."""

from gfx.masking.elements import candidates, fours, mask_elements
from gfx.masking.layers import CONVS, LAYERS, norms_of, outputs, writers_of
from gfx.masking.placement import Place, Placement, mount, refusal

__all__ = [
    "CONVS",
    "LAYERS",
    "Place",
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
