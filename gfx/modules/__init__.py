"""Layers of gfx's own that passes put into a graph: masks, penalties, taps.

They are visible in the program's text, hold their state in buffers and parameters, and know nothing
of the house: copying, saving, compiling and distributing them is what it is for any torch layer.
"""

from gfx.modules.layers import MASKED, MaskedLayer, masked_layer, plain_layer
from gfx.modules.marks import Penalty, Tap
from gfx.modules.masks import ChannelMask, LearnedMask
from gfx.modules.ramp import Ramp

__all__ = [
    "MASKED",
    "ChannelMask",
    "LearnedMask",
    "MaskedLayer",
    "Penalty",
    "Ramp",
    "Tap",
    "masked_layer",
    "plain_layer",
]
