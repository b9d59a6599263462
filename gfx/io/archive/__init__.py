"""Files: safe archives of compiled generators, and opening whatever a user has."""

from gfx.io.archive.opening import load, open_model
from gfx.io.archive.saving import save
from gfx.io.atomic_writes import check_writable

__all__ = ["check_writable", "load", "open_model", "save"]
