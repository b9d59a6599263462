"""Which activations are distilled, and how a student's are compared with a teacher's."""

from gfx.tapping.adapting import Adapters, adapters
from gfx.tapping.features import tapped
from gfx.tapping.marks import holders, insert, plain, strip, taps
from gfx.tapping.places import Places, is_floating
from gfx.tapping.rules import auto, gan_compression, gcc

__all__ = [
    "Adapters",
    "Places",
    "adapters",
    "auto",
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
