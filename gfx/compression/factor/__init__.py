"""Writes one convolution as several cheaper ones.

`Form` says which, `refusal` whether a layer can be written so, `factor` does it, `parameters` and
`macs` price it without doing it, and `compose` goes back: the one convolution that parts equal.
"""

from gfx.compression.factor.choose_layers import (
    Chosen,
    Condition,
    Names,
    check_said,
    choose,
    few_ranks,
    form_options,
    named,
)
from gfx.compression.factor.compose_parts import Pieces, compose
from gfx.compression.factor.dense_reference import written_out
from gfx.compression.factor.factor_layers import (
    Inputs,
    Priced,
    check_data,
    kernel_error,
    no_gain,
    parts_of,
    price,
    prices_of,
    why_not,
    written_rank,
)
from gfx.compression.factor.factorize import factor, fits
from gfx.compression.factor.forms import Convolution, Form, full_rank, refusal
from gfx.compression.factor.parts import macs, parameters, rank_of, skeleton
from gfx.compression.factor.rewrite_layers import write_layers

__all__ = [
    "Chosen",
    "Condition",
    "Convolution",
    "Form",
    "Inputs",
    "Names",
    "Pieces",
    "Priced",
    "check_data",
    "check_said",
    "choose",
    "compose",
    "factor",
    "few_ranks",
    "fits",
    "form_options",
    "full_rank",
    "kernel_error",
    "macs",
    "named",
    "no_gain",
    "parameters",
    "parts_of",
    "price",
    "prices_of",
    "rank_of",
    "refusal",
    "skeleton",
    "why_not",
    "write_layers",
    "written_out",
    "written_rank",
]
