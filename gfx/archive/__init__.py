"""Files: safe archives of compiled generators, and opening whatever a user has."""

from gfx.archive.disk import check_writable
from gfx.archive.loading import load
from gfx.archive.opening import open_model
from gfx.archive.saving import save

__all__ = ["check_writable", "load", "open_model", "save"]
