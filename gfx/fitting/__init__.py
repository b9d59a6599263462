"""Solves for the weights with which a layer reproduces given activations."""

from gfx.fitting.calibration import Calibration
from gfx.fitting.frontier import Steps
from gfx.fitting.normal import Solution
from gfx.fitting.solving import Sampling, check_size, examples_needed, gather, statistics
from gfx.fitting.units import Norm, Refusal, Target, Unit, units

__all__ = [
    "Calibration",
    "Norm",
    "Refusal",
    "Sampling",
    "Solution",
    "Steps",
    "Target",
    "Unit",
    "check_size",
    "examples_needed",
    "gather",
    "statistics",
    "units",
]
