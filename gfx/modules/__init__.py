"""Layers of gfx's own that passes put into a graph: masks, penalties, taps, sparse layers, norms.

They are visible in the program's text, hold their state in buffers and parameters, and know nothing
of the house: copying, saving, compiling and distributing them is what it is for any torch layer.
"""

from gfx.modules.known import OWN, is_known, is_own, without_content
from gfx.modules.layers import (
    MASKED,
    MaskedConv1d,
    MaskedConv2d,
    MaskedConv3d,
    MaskedConvTranspose1d,
    MaskedConvTranspose2d,
    MaskedConvTranspose3d,
    MaskedLayer,
    MaskedLinear,
    masked_layer,
    plain_layer,
)
from gfx.modules.marks import Penalty, Tap, penalised
from gfx.modules.masks import ChannelMask, LearnedMask, is_index, spread
from gfx.modules.norms import FAST, FastInstanceNorm1d, FastInstanceNorm2d, FastInstanceNorm3d
from gfx.modules.ramp import Ramp
from gfx.modules.sparse import CsrLinear, SemiStructuredLinear

__all__ = [
    "FAST",
    "MASKED",
    "OWN",
    "ChannelMask",
    "CsrLinear",
    "FastInstanceNorm1d",
    "FastInstanceNorm2d",
    "FastInstanceNorm3d",
    "LearnedMask",
    "MaskedConv1d",
    "MaskedConv2d",
    "MaskedConv3d",
    "MaskedConvTranspose1d",
    "MaskedConvTranspose2d",
    "MaskedConvTranspose3d",
    "MaskedLayer",
    "MaskedLinear",
    "Penalty",
    "Ramp",
    "SemiStructuredLinear",
    "Tap",
    "is_index",
    "is_known",
    "is_own",
    "masked_layer",
    "penalised",
    "plain_layer",
    "spread",
    "without_content",
]
