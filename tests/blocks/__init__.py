"""Small generators, written as data: a Spec prints readably, builds deterministically, and shrinks.

A failing Spec can be pasted from a test's output into a named test. Every block says how it is
built from the Site it stands at (its channels, its image size, the second input); widths are even
numbers, so that groups of two and halves always work out.
"""

from blocks.base import ACTS, NORMS, SECOND_INPUTS, Block
from blocks.conditions import Attention, ConditionalNorm, Noise, Spade, SqueezeExcite
from blocks.convs import Conv, Deconv, FunctionalConv, ReflectConv, Separable
from blocks.joins import Concat, InputSkip, Residual, Shared
from blocks.moves import PixelShuffle, Resize, Swap
from blocks.whole import WRAPS, OneInput, Source, Spec, TwoInputs

__all__ = [
    "ACTS",
    "NORMS",
    "SECOND_INPUTS",
    "WRAPS",
    "Attention",
    "Block",
    "Concat",
    "ConditionalNorm",
    "Conv",
    "Deconv",
    "FunctionalConv",
    "InputSkip",
    "Noise",
    "OneInput",
    "PixelShuffle",
    "ReflectConv",
    "Residual",
    "Resize",
    "Separable",
    "Shared",
    "Source",
    "Spade",
    "Spec",
    "SqueezeExcite",
    "Swap",
    "TwoInputs",
]
