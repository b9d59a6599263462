"""The report of a compressed program, to look at: one HTML page, one picture."""

from gfx.pages.drawing import drawing
from gfx.pages.measured import Latency, Timed
from gfx.pages.page import page
from gfx.pages.profiling import profiled

__all__ = ["Latency", "Timed", "drawing", "page", "profiled"]
