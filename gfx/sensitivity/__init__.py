"""Tells for each layer what shrinking it would save, and what it would do to the output."""

from gfx.sensitivity.inspecting import inspect
from gfx.sensitivity.rows import DECOMPOSE, Key, Row
from gfx.sensitivity.table import Facts, Stage, Table

__all__ = ["DECOMPOSE", "Facts", "Key", "Row", "Stage", "Table", "inspect"]
