"""Renders the report of a compressed program: one HTML page, one picture."""

from gfx.reports.result.latency_section import Latency, TimedNode, profiled
from gfx.reports.result.result_figure import drawing
from gfx.reports.result.result_page import page

__all__ = ["Latency", "TimedNode", "drawing", "page", "profiled"]
