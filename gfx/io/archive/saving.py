"""Writes a compiled generator to a file."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from gfx.errors import ArchiveError
from gfx.io.archive.files import write_zip
from gfx.io.archive.graph_json import check_path, write_graph
from gfx.io.archive.module_json import module_spec
from gfx.io.archive.object_classes import write_call
from gfx.io.archive.tensors import write_tensors
from gfx.io.atomic_writes import write_atomic
from gfx.ir.model_kinds import require_module
from gfx.ir.program import Program

__all__ = ["FORMAT", "save"]

FORMAT = 1  # of graph.json; a reader refuses what is newer


def save(
    model: fx.GraphModule | Program | nn.Module, path: str | os.PathLike[str], *, report: Any = None
) -> None:
    """Saves a compiled generator as a `.gfx` archive, or as a pickle if the path ends in `.pt`.

    A supernet is saved as its largest net, with its widths: `gfx.supernet(path)` has them again.

    An archive holds the graph, the weights and the report, and opens without running anything from
    the file. The same model gives the same bytes. The file appears whole or not at all.
    `report` is plain data, or has `to_dict`; the default is the report the model carries.

    Raises: ArchiveError if the model holds what a file cannot (it names node or module), or the
        file cannot be written.

    Example:
        >>> import tempfile
        >>> small = fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 3, 1)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(small, f"{folder}/small.gfx")
        ...     os.listdir(folder)
        ['small.gfx']
    """
    suffix = Path(path).suffix
    if suffix not in (".gfx", ".pt", ".pth"):
        raise ArchiveError(f"cannot write {path}: gfx writes .gfx archives, or .pt pickles")
    held: Any = getattr(model, "program", None)
    given: Any = held if isinstance(held, Program) else model  # of a supernet
    module = given.module if isinstance(given, Program) else require_module(given)
    if not isinstance(module, fx.GraphModule):
        raise ArchiveError(
            f"cannot save a {type(module).__name__}; gfx.apply and gfx.trace give what can be saved"
        )
    if suffix != ".gfx":
        write_atomic(path, lambda file: torch.save(module, file))
        return
    report = _report(module, report)
    members = _members(module, _inputs(given, report), report)
    write_atomic(path, lambda file: write_zip(file, members))


def _members(module: fx.GraphModule, inputs: Any, report: Any) -> dict[str, bytes]:
    """Returns the content of an archive, file name by file name."""
    from safetensors.torch import save as save_tensors

    table, arrays = write_tensors(module)
    for tensor_path in table:
        check_path(tensor_path)
    graph = {
        "format": FORMAT,
        "name": type(module).__name__,
        "inputs": inputs,
        "modules": _modules(module),
        "eval": [p for p, m in module.named_modules(remove_duplicate=False) if not m.training],
        "tensors": table,
        "nodes": write_graph(module.graph),
    }
    call = write_call(module.graph)
    if call is not None:
        graph["call"] = call
    if module.meta.get("gfx_supernet"):
        graph["supernet"] = module.meta["gfx_supernet"]
    members = {"graph.json": _json(graph), "weights.safetensors": save_tensors(arrays)}
    return members if report is None else members | {"report.json": _json(report)}


def _modules(module: fx.GraphModule) -> dict[str, Any]:
    """Returns the spec of every module but the root; parts of a leaf come with the leaf."""
    whole = Program(module, ())
    targets = {str(node.target) for node in module.graph.nodes if node.op == "call_module"}
    called = {id(part) for t in targets for part in module.get_submodule(t).modules()}
    first: dict[int, str] = {}
    specs: dict[str, Any] = {}
    closed: tuple[str, ...] = ()  # prefixes below which nothing is written
    for path, part in module.named_modules(remove_duplicate=False):
        if not path or path.startswith(closed):
            continue
        check_path(path)
        known = first.setdefault(id(part), path)
        if known != path:
            specs[path] = {"same": known}
        elif id(part) in called:
            specs[path] = module_spec(part, path, whole)
        else:
            specs[path] = {"class": "torch.nn.Module"}  # only a place for what lies below
        if "same" in specs[path] or "args" in specs[path]:
            closed += (f"{path}.",)
    return specs


def _inputs(model: fx.GraphModule | Program, report: Any) -> list[dict[str, Any]] | None:
    """Describes the inputs: the program's, those the model was loaded with, or the report's."""
    if isinstance(model, Program):
        return _describe(model.example_inputs)
    known = model.meta.get("gfx_inputs")
    if known is None and isinstance(report, dict):
        known = dict(report.get("recipe") or {}).get("input")
    return known or _describe(n.meta.get("val") for n in model.graph.nodes if n.op == "placeholder")


def _describe(values: Iterable[Any]) -> list[dict[str, Any]] | None:
    """Writes shape and dtype of each input, if all are tensors and known."""
    tensors = list(values)
    if not tensors or not all(isinstance(value, torch.Tensor) for value in tensors):
        return None
    return [
        {"shape": [int(n) for n in t.shape], "dtype": str(t.dtype).removeprefix("torch.")}
        for t in tensors
    ]


def _report(module: nn.Module, report: Any) -> Any:
    value: Any = getattr(module, "gfx_report", None) if report is None else report
    return _timeless(value.to_dict() if hasattr(value, "to_dict") else value)


def _timeless(value: Any) -> Any:
    """Drops measured times: the same model must give the same bytes."""
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key != "seconds"}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ArchiveError(f"the report holds what JSON cannot: {error}") from error
