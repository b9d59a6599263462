"""Predicts the latency of a program at other widths, from measurements on this machine."""

from gfx.deploy.latency.factored_layers import FormTimes
from gfx.deploy.latency.measure import MachineMeasurer, Measurer, measured
from gfx.deploy.latency.model import LatencyModel, latency_model

__all__ = ["FormTimes", "LatencyModel", "MachineMeasurer", "Measurer", "latency_model", "measured"]
