"""Solves for the weights with which a layer reproduces given activations."""

from gfx.compression.refit.accumulate import Sampling, gather, shortage, statistics
from gfx.compression.refit.fit_units import FitRefusal, NormStatistics, Target, Unit, units
from gfx.compression.refit.normal_equations import Solution
from gfx.compression.refit.paired_runs import PairedRuns
from gfx.compression.refit.sample_size import Supply
from gfx.compression.refit.stepper import Steps

__all__ = [
    "FitRefusal",
    "NormStatistics",
    "PairedRuns",
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
