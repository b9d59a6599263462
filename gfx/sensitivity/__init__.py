"""Measures for each layer the saving and the damage of shrinking it."""

from gfx.sensitivity.inspect_layers import sensitivity_table
from gfx.sensitivity.rows import DECOMPOSE, Key, Row
from gfx.sensitivity.table import Stage, Table, TableFacts

__all__ = ["DECOMPOSE", "Key", "Row", "Stage", "Table", "TableFacts", "sensitivity_table"]
