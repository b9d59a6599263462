"""Runs systems by `gfx.compress`, and renders the page of a run."""

from gfx.reports.run.compress_model import CompressionRun, compress

__all__ = ["CompressionRun", "compress"]
