"""Files: safe archives of compiled generators, and opening whatever a user has."""

from gfx.io.archive.opening import ModelPath, as_module, load, open_model
from gfx.io.archive.saving import save
from gfx.io.atomic_writes import check_writable

__all__ = ["ModelPath", "as_module", "check_writable", "load", "open_model", "save"]
