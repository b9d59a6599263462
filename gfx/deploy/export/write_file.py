"""Writes a program as ONNX or as torch.export's .pt2, after a comparison on fresh inputs."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, get_args

from torch import nn

from gfx.deploy.export.attempt import Format
from gfx.deploy.export.blame import check_chance, check_exportable
from gfx.deploy.export.dynamic_sizes import SizeSearch
from gfx.deploy.export.export_subject import subject
from gfx.deploy.export.onnx import check_opset, needed
from gfx.errors import ExportError
from gfx.io.archive import ModelPath, as_module
from gfx.io.atomic_writes import check_writable, write_atomic
from gfx.ir.ambient_modes import shielded
from gfx.ir.program import Program
from gfx.progress import Progress, reported, stage

__all__ = ["Exported", "check_target", "export"]


@shielded
@dataclass(frozen=True)
class Exported:
    """Describes a written file: its sizes that vary, and how it compares with the program."""

    path: str
    format: Format
    bytes: int
    opset: int | None  # of an ONNX file
    inputs: tuple[str, ...]  # `image: float32 batch x 3 x height x width`
    outputs: tuple[str, ...]
    dynamic: tuple[str, ...]  # names of the sizes that vary
    fixed: tuple[str, ...]  # sentences: the fixed sizes, and why
    error: float | None  # the largest, relative to the largest absolute output; None: not checked
    tolerance: float
    comparisons: int  # fresh inputs that it ran on
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        opset = "" if self.opset is None else f", opset {self.opset}"
        lines = [f"{self.path}: {self.format}{opset}, {self.bytes:,} bytes"]
        lines += [f"  {text}" for text in self.inputs]
        lines += [f"  -> {text}" for text in self.outputs]
        lines += [f"dynamic: {', '.join(self.dynamic) or 'no size'}"]
        lines += [f"fixed: {text}" for text in self.fixed]
        lines += [f"note: {text}" for text in self.notes]
        return "\n".join([*lines, self.parity()])

    def parity(self) -> str:
        """Says how the file compares with the model."""
        if self.error is None:
            return "NOT CHECKED: nobody has run what was exported"
        by = "onnxruntime" if self.format == "onnx" else "torch.export"
        return (
            f"checked: {by} on {self.comparisons} fresh inputs, largest relative error "
            f"{self.error:.1e}, {self.tolerance:.0e} is allowed"
        )


@reported
def export(
    model: nn.Module | Program | ModelPath,
    path: str | os.PathLike[str],
    example_inputs: Any = None,
    *,
    opset: int | None = None,
    dynamic: bool = True,
    force: bool = False,
    check: bool = True,
    progress: Progress = False,
) -> Exported:
    """Writes a model as ONNX (.onnx) or as a program of torch.export (.pt2), in eval mode.

    Before the file appears, onnxruntime, or the .pt2 read back, runs on fresh seeded inputs, and
    its outputs are compared with the model's: at the sizes of the example inputs, and at others
    for the sizes that vary (`dynamic`). A size that fails there is fixed. `check=False` skips the
    comparison. `progress=True` shows a line on stderr; a function is called with each
    `gfx.progress.ProgressEvent`. The model is not modified.

    Raises: ExportError if the target exists (and not `force`), the program cannot be exported (it
    names the node), or computes something else afterwards; nothing is written then. InputError if
    a package is missing; ArchiveError if the file cannot be written.

    Example:
        >>> import tempfile
        >>> import torch
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     done = export(model, f"{folder}/net.pt2", torch.rand(1, 3, 8, 8))
        >>> done.inputs, done.dynamic
        (('input: float32 batch x 3 x height x width',), ('batch', 'height', 'width'))
        >>> done.error < 1e-6
        True
    """
    form = check_target(path, opset=opset, force=force, check=check)
    stage("tracing")
    found = subject(as_module(model), example_inputs)
    check_exportable(found.program)
    if check:
        check_chance(found.program)
    search = SizeSearch(found, form, opset, dynamic=dynamic, check=check)
    made = search.run()

    def write(file: BinaryIO) -> None:
        file.write(made.data)

    write_atomic(path, write)
    return Exported(
        str(path),
        form,
        len(made.data),
        made.opset,
        made.inputs,
        made.outputs,
        tuple(extent.name for extent in search.free),
        tuple(f"{name} ({why})" for name, why in search.fixed.items()),
        search.error if check else None,
        search.allowed,
        search.comparisons,
        _notes(found.training),
    )


def check_target(
    path: str | os.PathLike[str], *, opset: int | None = None, force: bool, check: bool = True
) -> Format:
    """Checks, before the long work, that a path can be exported to; returns the format.

    Raises: ExportError if its suffix is none of the formats, the file exists, or the opset is
    not known; InputError if a package is missing; ArchiveError if it cannot be written.

    Example:
        >>> check_target("net.h5", force=False)
        Traceback (most recent call last):
        gfx.errors.ExportError: cannot export to net.h5: name a file that ends in .onnx or .pt2 ...
    """
    form = Path(path).suffix.removeprefix(".")
    if form not in get_args(Format):
        raise ExportError(
            f"cannot export to {path}: name a file that ends in .onnx or .pt2 (torch.export)"
        )
    target = check_writable(path)
    if target.exists() and not force:
        raise ExportError(f"{path} exists; --force (force=True) replaces it, or name another file")
    if form == "pt2":
        if opset is not None:
            raise ExportError(f"{path} has no opset, only ONNX has; drop --opset {opset}")
        return "pt2"
    for package in ("onnx", "onnxscript", *(["onnxruntime"] if check else [])):
        needed(package)
    check_opset(opset)
    return "onnx"


def _notes(training: bool) -> tuple[str, ...]:
    if not training:
        return ()
    return ("the model is in training mode; what was exported is what it computes in eval mode",)
