"""Tells for each layer what shrinking it would save, and what it would do to the output."""

from gfx.sensitivity.inspect_layers import inspect
from gfx.sensitivity.rows import DECOMPOSE, Key, Row
from gfx.sensitivity.table import Stage, Table, TableFacts

__all__ = ["DECOMPOSE", "Key", "Row", "Stage", "Table", "TableFacts", "inspect"]
