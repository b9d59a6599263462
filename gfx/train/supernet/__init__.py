"""Supernets: one set of weights that serves a generator at many widths."""

from gfx.train.supernet.make_supernet import supernet
from gfx.train.supernet.supernet_module import Supernet
from gfx.train.supernet.width_choices import WidthChoices

__all__ = ["Supernet", "WidthChoices", "supernet"]
