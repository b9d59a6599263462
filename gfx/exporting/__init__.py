"""Writes programs for other runtimes, and shows that they compute the same there."""

from gfx.exporting.onnx import onnx_bytes
from gfx.exporting.writing import Exported, check_target, export

__all__ = ["Exported", "check_target", "export", "onnx_bytes"]
