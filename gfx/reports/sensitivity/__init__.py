"""Renders the table of `gfx.inspect` as text, page, figure and recipe."""

from gfx.reports.sensitivity.findings import Findings, inspect

__all__ = ["Findings", "inspect"]
