"""Reads an archive, running nothing from it."""

import json
import os
from typing import Any

import torch
from torch import fx, nn

from gfx.errors import ArchiveError
from gfx.io.archive.files import read_zip, regular_file
from gfx.io.archive.graph_json import check_path, identifier, read_graph
from gfx.io.archive.module_json import build_module
from gfx.io.archive.object_classes import read_call
from gfx.io.archive.saving import FORMAT
from gfx.io.archive.tensors import read_tensors, tensors_of

__all__ = ["load"]


def load(path: str | os.PathLike[str]) -> fx.GraphModule:
    """Loads what `save` wrote: same output bit for bit, same state dict, same modes; on the cpu.

    Nothing in the file is executed or imported. `meta["gfx_inputs"]` of the result lists shape and
    dtype of the example inputs, if they were known; `gfx_report` is the report as plain data.

    Raises: ArchiveError if the file is missing, damaged, newer than this gfx, names anything
        outside the allow-list, or its weights do not match its graph.

    Example:
        >>> load("missing.gfx")
        Traceback (most recent call last):
        gfx.errors.ArchiveError: missing.gfx does not exist; check the path
    """
    file = regular_file(path)
    required = ("graph.json", "weights.safetensors")
    members = read_zip(file, required, optional=("report.json",))
    try:
        return _build(members)
    except ArchiveError as error:
        raise ArchiveError(f"{path}: {error}") from error
    except Exception as error:  # a malformed file may fail anywhere; nothing of it is kept
        raise ArchiveError(
            f"{path} is malformed ({type(error).__name__}: {error}); save it again"
        ) from error


def _build(members: dict[str, bytes]) -> fx.GraphModule:
    from safetensors.torch import load as load_tensors

    data = _parse(members["graph.json"])
    if data.get("format") != FORMAT:
        raise ArchiveError(
            f"it has format {data.get('format')}, this gfx reads format {FORMAT}; update gfx"
        )
    root = fx.GraphModule(nn.Module(), fx.Graph(), class_name=identifier(data["name"]))
    _add_modules(root, data["modules"])
    graph = read_graph(data["nodes"])
    tensors = read_tensors(data["tensors"], load_tensors(members["weights.safetensors"]))
    for path, (kind, tensor) in tensors.items():
        _place(root, check_path(path), kind, tensor)
    _check_complete(root, graph)
    read_call(data.get("call"), graph)
    root.graph = graph  # compiles it
    root._tracer_cls = graph._tracer_cls
    for path in data["eval"]:
        root.get_submodule(path).training = False
    if data["inputs"] is not None:
        root.meta["gfx_inputs"] = _noted_inputs(data["inputs"])
    if data.get("supernet") is not None:
        root.meta["gfx_supernet"] = data["supernet"]
    if "report.json" in members:
        report: Any = _parse(members["report.json"])
        root.gfx_report = report
        root.meta["_user_preserved_attributes"] = {"gfx_report": report}  # for deep copies
    return root


def _parse(text: bytes) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ArchiveError("its graph.json or report.json is no JSON object")
    return value


def _noted_inputs(value: Any) -> list[dict[str, Any]]:
    """Returns the shapes and dtypes of the example inputs.

    Raises: ArchiveError if they are none.
    """
    listed = isinstance(value, list) and all(isinstance(item, dict) for item in value)
    for item in value if listed else [{}]:
        shape, dtype = item.get("shape"), item.get("dtype")
        sizes = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
        if not sizes or not isinstance(dtype, str):
            raise ArchiveError("its example inputs are no list of shapes and dtypes")
        if not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise ArchiveError(f"its example inputs are of {dtype!r}, which is no dtype of torch")
    return value  # type: ignore[no-any-return]


def _add_modules(root: nn.Module, specs: dict[str, Any]) -> None:
    for path, spec in specs.items():
        parent, _, name = check_path(path).rpartition(".")
        same = spec.get("same")
        part: nn.Module = (
            build_module(spec, path) if same is None else root.get_submodule(check_path(same))
        )
        root.get_submodule(parent).add_module(name, part)


def _place(root: nn.Module, path: str, kind: str, tensor: torch.Tensor) -> None:
    """Puts a tensor where the file says, in the form that the module there expects."""
    owner_path, _, name = path.rpartition(".")
    owner = root.get_submodule(owner_path)
    expected = {**owner._buffers, **owner._parameters}.get(name)
    held = vars(owner).get(name)
    if expected is not None and expected.shape != tensor.shape:
        raise ArchiveError(
            f"the weights do not match the graph: {path} has shape {list(tensor.shape)}, "
            f"{type(owner).__name__} needs {list(expected.shape)}"
        )
    taken = hasattr(type(owner), name) or not isinstance(held, (torch.Tensor, type(None)))
    if expected is None and taken:
        raise ArchiveError(f"{path} would hide an attribute of {type(owner).__name__}")
    # the file's order is the state dict's, and a folded parametrization is not the constructor's
    owner._parameters.pop(name, None)
    owner._buffers.pop(name, None)
    if kind == "parameter" and isinstance(tensor, nn.Parameter):
        setattr(owner, name, tensor)
    elif kind in ("buffer", "transient"):
        owner.register_buffer(name, tensor, persistent=kind == "buffer")
    elif kind == "constant":
        owner.__dict__[name] = tensor
    else:
        raise ArchiveError(f"{path} is a {kind!r}, which is no kind of tensor")


def _check_complete(root: nn.Module, graph: fx.Graph) -> None:
    """Raises ArchiveError if a module has no data or a node finds nothing at its path."""
    for path, _, tensor in tensors_of(root):
        if tensor.is_meta:
            raise ArchiveError(f"the weights do not match the graph: {path} is missing")
    for node in graph.nodes:
        if node.op not in ("get_attr", "call_module"):
            continue
        owner, _, name = str(node.target).rpartition(".")
        wanted: type = torch.Tensor if node.op == "get_attr" else nn.Module
        if not isinstance(getattr(root.get_submodule(owner), name, None), wanted):
            raise ArchiveError(f"node {node.name} finds no {wanted.__name__} at {node.target}")
