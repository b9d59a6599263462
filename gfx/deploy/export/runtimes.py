"""Runs exported files: ONNX in onnxruntime, .pt2 in torch."""

import io
from collections.abc import Callable
from typing import Any

import torch

from gfx.deploy.export.capture import hushed
from gfx.deploy.export.onnx import needed
from gfx.errors import ExportError
from gfx.ir.execute import copied, tensors
from gfx.objects.take_apart import leaves

__all__ = ["Runtime", "in_onnxruntime", "in_torch"]

Runtime = Callable[[tuple[Any, ...]], list[torch.Tensor]]

_FATAL = 4  # log level of onnxruntime
_LONGEST = 200  # characters of a runtime's message


def in_onnxruntime(data: bytes) -> Runtime:
    """Opens an ONNX file on the CPU; the result runs it and returns its outputs as tensors.

    Raises: InputError if onnxruntime is not installed; ExportError if it cannot open the file.
    """
    runtime = needed("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = _FATAL
    try:
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds, named differently by version
        raise ExportError(f"onnxruntime cannot open what was exported: {_said(error)}") from error
    names = [item.name for item in session.get_inputs()]

    def run(inputs: tuple[Any, ...]) -> list[torch.Tensor]:
        values = [leaf.detach().cpu().numpy() for leaf in tensors(inputs)]
        try:
            found = session.run(None, dict(zip(names, values, strict=True)))
        except Exception as error:
            raise ExportError(
                f"onnxruntime cannot run what was exported: {_said(error)}"
            ) from error
        return [torch.as_tensor(value) for value in found]

    return run


def in_torch(data: bytes) -> Runtime:
    """Reads a program of torch.export back; the result runs it.

    Raises: ExportError if it cannot be read.
    """
    try:
        with hushed():
            module = torch.export.load(io.BytesIO(data)).module()
    except Exception as error:
        raise ExportError(f"torch cannot read what was exported: {_said(error)}") from error

    def run(inputs: tuple[Any, ...]) -> list[torch.Tensor]:
        try:
            with hushed(), torch.no_grad():
                found = leaves(module(*copied(inputs)))
        except Exception as error:
            raise ExportError(f"torch cannot run what was exported: {_said(error)}") from error
        return [leaf for leaf in found if isinstance(leaf, torch.Tensor)]  # without None

    return run


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
