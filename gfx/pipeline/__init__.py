"""Runs recipes: applies each pass to a copy, checks it, writes the report."""

from gfx.pipeline.apply_recipe import apply
from gfx.pipeline.pass_context import resolve

__all__ = ["apply", "resolve"]
