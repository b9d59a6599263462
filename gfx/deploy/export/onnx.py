"""Translates a captured module to ONNX by torch's exporter, the second half of an export."""

import importlib
from typing import Any

import torch
from torch import fx, nn

from gfx.deploy.export.capture import capture, hushed
from gfx.deploy.export.names import clean, name_nodes, output_names
from gfx.errors import ExportError, InputError

__all__ = ["check_opset", "needed", "onnx_bytes", "translated"]

_LOWEST = 16  # torch's exporter writes 18; its converter goes two back
_MOST = 2**31 - 1  # bytes of a protobuf message


def onnx_bytes(module: nn.Module, inputs: tuple[Any, ...], *, opset: int | None = None) -> bytes:
    """Returns a module as an ONNX file with its weights inside, for the sizes of the inputs.

    The module is exported in eval mode and is not modified. Nothing is compared.

    Raises: InputError if a needed package is not installed; ExportError if the opset is not known,
    or the file would be too large; whatever torch raises where it cannot export the module.

    Example:
        >>> onnx_bytes(nn.Linear(2, 3), (torch.ones(1, 2),))[:2].hex()
        '080a'
    """
    check_opset(opset)
    data: bytes = translated(capture(module, inputs), module, opset).SerializeToString()
    return data


def check_opset(opset: int | None) -> None:
    """Checks that an opset can be written.

    Raises: InputError if onnx is not installed; ExportError with the known range.

    Example:
        >>> check_opset(3)
        Traceback (most recent call last):
        gfx.errors.ExportError: opset 3 cannot be written: the exporter knows 16 to ...
    """
    highest = needed("onnx").defs.onnx_opset_version()
    if opset is not None and not _LOWEST <= opset <= highest:
        raise ExportError(
            f"opset {opset} cannot be written: the exporter knows {_LOWEST} to {highest}; choose "
            "one of these, or none for torch's own choice"
        )


def needed(name: str) -> Any:
    """Imports a package that ONNX needs.

    Raises: InputError that names the extra if it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"ONNX takes {name}, which is not installed: pip install 'gfx-compiler[onnx]'"
        ) from error


def translated(
    program: torch.export.ExportedProgram, module: nn.Module, opset: int | None = None
) -> Any:
    """Returns a captured module as an onnx.ModelProto with readable names.

    Raises: InputError if a needed package is not installed; ExportError if the weights are too
    large for one file, or the program cannot be written in the opset; whatever torch raises.
    """
    for name in ("onnx", "onnxscript"):
        needed(name)
    _check_size(program)
    names = output_names(program)
    with hushed(), torch.no_grad():
        made = torch.onnx.export(
            program, dynamo=True, verbose=False, opset_version=opset, output_names=names
        )
        assert made is not None  # as no file is named
        model, lowered = made.model_proto, made.exported_program
    got = {item.domain: item.version for item in model.opset_import}[""]
    if opset not in (None, got):
        raise ExportError(
            f"the program cannot be written in opset {opset}: an operation of it has no form "
            f"there; torch wrote opset {got}, which --opset {got} takes"
        )
    if isinstance(module, fx.GraphModule) and lowered is not None:
        name_nodes(model, lowered, module)
    clean(model)
    return model


def _check_size(program: torch.export.ExportedProgram) -> None:
    tensors = [*program.state_dict.values(), *program.constants.values()]
    held = {id(t): t.nbytes for t in tensors if isinstance(t, torch.Tensor)}
    if sum(held.values()) > _MOST:
        raise ExportError(
            f"the weights take {sum(held.values()) / 2**30:.1f} GiB and one ONNX file holds 2 GiB; "
            "export to .pt2 instead, or in half precision"
        )
