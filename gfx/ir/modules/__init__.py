"""Layers of gfx's own in graphs: masks, penalties, taps, choices, sparse layers, norms, size rules.

They are visible in the program's text and hold their state in buffers and parameters. They import
nothing else of gfx, so they are copied, saved, compiled and distributed like any torch layer.
"""

from gfx.ir.modules.channel_masks import ChannelMask, LearnedMask, is_index, spread
from gfx.ir.modules.choice_layers import ChoiceLayer
from gfx.ir.modules.instance_norms import (
    FAST,
    FastInstanceNorm1d,
    FastInstanceNorm2d,
    FastInstanceNorm3d,
)
from gfx.ir.modules.known import OWN, is_known, is_own, without_content
from gfx.ir.modules.masked_layers import (
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
from gfx.ir.modules.size_rules import SizeRules, follows
from gfx.ir.modules.sparse_linear import CsrLinear, SemiStructuredLinear
from gfx.ir.modules.sparsity_ramp import Ramp
from gfx.ir.modules.tap_layers import Penalty, Tap, penalised

__all__ = [
    "FAST",
    "MASKED",
    "OWN",
    "ChannelMask",
    "ChoiceLayer",
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
    "SizeRules",
    "Tap",
    "follows",
    "is_index",
    "is_known",
    "is_own",
    "masked_layer",
    "penalised",
    "plain_layer",
    "spread",
    "without_content",
]
