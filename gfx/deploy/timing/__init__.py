"""Times programs: backends, interleaved rounds, and whether noise decides."""

from gfx.deploy.timing.backends import BACKENDS, Backend, Runner, prepare
from gfx.deploy.timing.interleave import interleaved, medians, seconds
from gfx.deploy.timing.machine_info import Machine, machine
from gfx.deploy.timing.speedup_interval import Interval, speedup
from gfx.deploy.timing.timing_samples import TimingSample, demand_steady

__all__ = [
    "BACKENDS",
    "Backend",
    "Interval",
    "Machine",
    "Runner",
    "TimingSample",
    "demand_steady",
    "interleaved",
    "machine",
    "medians",
    "prepare",
    "seconds",
    "speedup",
]
