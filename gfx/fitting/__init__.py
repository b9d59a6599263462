"""Solves for the weights with which a layer reproduces given activations."""

from gfx.fitting.calibration import Calibration
from gfx.fitting.frontier import Steps
from gfx.fitting.normal import Solution
from gfx.fitting.solving import Sampling, gather, shortage, statistics
from gfx.fitting.supply import Supply
from gfx.fitting.units import Norm, Refusal, Target, Unit, units

__all__ = [
    "Calibration",
    "Norm",
    "Refusal",
    "Sampling",
    "Solution",
    "Steps",
    "Supply",
    "Target",
    "Unit",
    "gather",
    "shortage",
    "statistics",
    "units",
]
