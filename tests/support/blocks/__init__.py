"""Small generators, written as data: a Spec prints readably, builds deterministically, and shrinks.

A failing Spec can be pasted from a test's output into a named test. Every block says how it is
built from the Site it stands at (its channels, its image size, the second input); widths are even
numbers, so that groups of two and halves mostly work out, and a block that cannot be built there
leaves the features alone.
"""

from support.blocks.attention import Attention, MultiHead
from support.blocks.base import ACTS, SECOND_INPUTS, Block
from support.blocks.branches import Branches, Picked, Tied, Twice
from support.blocks.conditions import (
    ClassActivation,
    ConditionalNorm,
    Noise,
    PooledConcat,
    Spade,
    SqueezeExcite,
    StyleNorm,
    TimeResidual,
)
from support.blocks.convs import Conv, Deconv, ReflectConv, Separable, Subclass
from support.blocks.functional import Blur, FunctionalConv, Modulated
from support.blocks.joins import Concat, InputSkip, LabelConcat, Residual, Shared, Shortcut
from support.blocks.moves import Crop, Parts, PixelShuffle, Resize, Swap
from support.blocks.norms import APPROXIMATE, NORMS
from support.blocks.reshapes import Cells, ChannelsLast, Fourier, ThroughLinear, WindowAttention
from support.blocks.whole import LATENTS, SHAPES, WRAPS, OneInput, Source, Spec, TwoInputs

__all__ = [
    "ACTS",
    "APPROXIMATE",
    "LATENTS",
    "NORMS",
    "SECOND_INPUTS",
    "SHAPES",
    "WRAPS",
    "Attention",
    "Block",
    "Blur",
    "Branches",
    "Cells",
    "ChannelsLast",
    "ClassActivation",
    "Concat",
    "ConditionalNorm",
    "Conv",
    "Crop",
    "Deconv",
    "Fourier",
    "FunctionalConv",
    "InputSkip",
    "LabelConcat",
    "Modulated",
    "MultiHead",
    "Noise",
    "OneInput",
    "Parts",
    "Picked",
    "PixelShuffle",
    "PooledConcat",
    "ReflectConv",
    "Residual",
    "Resize",
    "Separable",
    "Shared",
    "Shortcut",
    "Source",
    "Spade",
    "Spec",
    "SqueezeExcite",
    "StyleNorm",
    "Subclass",
    "Swap",
    "ThroughLinear",
    "Tied",
    "TimeResidual",
    "Twice",
    "TwoInputs",
    "WindowAttention",
]
