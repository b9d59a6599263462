"""Measures what a change of one place does to the output, from cached activations."""

from gfx.probing.changes import Change, Narrowing, Replacement
from gfx.probing.replay import Metric, Replay
from gfx.probing.synthetic import synthetic, synthetic_note
from gfx.probing.weak import weakest

__all__ = [
    "Change",
    "Metric",
    "Narrowing",
    "Replacement",
    "Replay",
    "synthetic",
    "synthetic_note",
    "weakest",
]
