"""Writes one convolution as several cheaper ones.

`Form` says which, `refusal` whether a layer can be written so, `factor` does it, `parameters` and
`macs` price it without doing it, and `compose` goes back: the one convolution that parts equal.
"""

from gfx.factoring.composing import compose
from gfx.factoring.factoring import factor, fits
from gfx.factoring.forms import Form, Layer, full_rank, refusal
from gfx.factoring.layout import macs, parameters, rank_of, skeleton

__all__ = [
    "Form",
    "Layer",
    "compose",
    "factor",
    "fits",
    "full_rank",
    "macs",
    "parameters",
    "rank_of",
    "refusal",
    "skeleton",
]
