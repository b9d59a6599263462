"""Writes programs for other runtimes, and checks that they compute the same there."""

from gfx.deploy.export.onnx import onnx_bytes
from gfx.deploy.export.write_file import Exported, check_target, export

__all__ = ["Exported", "check_target", "export", "onnx_bytes"]
