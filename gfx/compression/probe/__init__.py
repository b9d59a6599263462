"""Measures how a change of one place moves the output, from cached activations."""

from gfx.compression.probe.changes import Narrowing, ProbeChange, Replacement
from gfx.compression.probe.damages import Damages, sensitive
from gfx.compression.probe.replay import Metric, Replay

__all__ = ["Damages", "Metric", "Narrowing", "ProbeChange", "Replacement", "Replay", "sensitive"]
