"""Writes programs for other runtimes, and shows that they compute the same there."""

from gfx.exporting.onnx import onnx_bytes

__all__ = ["onnx_bytes"]
