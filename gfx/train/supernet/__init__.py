"""Supernets: one set of weights that serves a generator at many widths and forms."""

from gfx.compression.selection.width_choices import WidthChoices
from gfx.train.supernet.assignments import Assignment, Setting
from gfx.train.supernet.make_supernet import supernet
from gfx.train.supernet.supernet_module import Supernet

__all__ = ["Assignment", "Setting", "Supernet", "WidthChoices", "supernet"]
