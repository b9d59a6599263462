"""Runs programs against the clock: backends, interleaved rounds, and whether noise decides."""

from gfx.timing.backends import BACKENDS, Backend, Runner, prepare
from gfx.timing.clock import interleaved, medians, seconds
from gfx.timing.intervals import Interval, speedup
from gfx.timing.machine import Machine, machine
from gfx.timing.samples import Sample, demand_steady

__all__ = [
    "BACKENDS",
    "Backend",
    "Interval",
    "Machine",
    "Runner",
    "Sample",
    "demand_steady",
    "interleaved",
    "machine",
    "medians",
    "prepare",
    "seconds",
    "speedup",
]
