"""Reads systems: recipes with `stages:`, each some passes and one training loop."""

from gfx.train.systems.fit_fields import Critic, Fit, Guide, Partner
from gfx.train.systems.read_system import load_system, presets_of
from gfx.train.systems.run_length import RunLength
from gfx.train.systems.system import System, SystemStage

__all__ = [
    "Critic",
    "Fit",
    "Guide",
    "Partner",
    "RunLength",
    "System",
    "SystemStage",
    "load_system",
    "presets_of",
]
