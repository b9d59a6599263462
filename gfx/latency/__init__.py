"""Predicts the milliseconds of a program at other widths, from measurements on this machine."""

from gfx.latency.forms import FormTimes
from gfx.latency.measuring import Clocked, Measurer, measured
from gfx.latency.model import LatencyModel, latency_model

__all__ = ["Clocked", "FormTimes", "LatencyModel", "Measurer", "latency_model", "measured"]
