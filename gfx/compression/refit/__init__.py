"""Solves for the weights with which a layer reproduces given activations."""

from gfx.compression.refit.fit_program import FitResult, FitSettings, fit_program
from gfx.compression.refit.fit_units import FitRefusal, NormStatistics, Target, Unit, units
from gfx.compression.refit.normal_equations import Solution
from gfx.compression.refit.paired_runs import PairedRuns
from gfx.compression.refit.stepper import Steps

__all__ = [
    "FitRefusal",
    "FitResult",
    "FitSettings",
    "NormStatistics",
    "PairedRuns",
    "Solution",
    "Steps",
    "Target",
    "Unit",
    "fit_program",
    "units",
]
