"""Runs recipes: applies each pass to a copy, checks it, writes the report."""

from gfx.pipeline.applying import apply
from gfx.pipeline.running import settle

__all__ = ["apply", "settle"]
