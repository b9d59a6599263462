"""Finds the activations to distil, and adapts a student's features to a teacher's."""

from gfx.compression.taps.adapter_layers import Adapters, adapters, adapters_between
from gfx.compression.taps.module_ends import Places, is_floating
from gfx.compression.taps.paper_rules import auto, gan_compression, gcc
from gfx.compression.taps.tap_nodes import holders, insert, plain, strip, taps
from gfx.compression.taps.tapped_features import features_alone, tapped

__all__ = [
    "Adapters",
    "Places",
    "adapters",
    "adapters_between",
    "auto",
    "features_alone",
    "gan_compression",
    "gcc",
    "holders",
    "insert",
    "is_floating",
    "plain",
    "strip",
    "tapped",
    "taps",
]
