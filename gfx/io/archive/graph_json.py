"""Writes a graph as a JSON list of nodes, and reads it back.

In arguments plain data stays plain; everything else becomes {kind: content}.
"""

import keyword
import math
import re
from collections.abc import Mapping
from typing import Any
from unicodedata import normalize

import numpy as np
import torch
from torch import fx

from gfx.errors import ArchiveError
from gfx.io.archive import allow_list as targets
from gfx.io.archive.named_tuples import describe, stand_in
from gfx.objects.call_form import is_plain_call

__all__ = [
    "check_path",
    "decode",
    "dtype_from",
    "encode",
    "identifier",
    "read_graph",
    "write_graph",
]

_TORCH_NAMES = (torch.dtype, torch.memory_format, torch.layout)
_ACCELERATOR = re.compile(r"(cuda|mps|xpu|hpu|xla|mtia|privateuseone)(:\d+)?")


def encode(value: Any) -> Any:
    """Writes an argument as JSON data.

    Raises: ArchiveError if the value has no spelling in a file.

    Example:
        >>> encode((1, slice(None, 2), torch.float32, float("inf")))
        {'tuple': [1, {'slice': [None, 2, None]}, {'torch': 'float32'}, {'float': 'inf'}]}
    """
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, np.generic):
        return encode(value.item())
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if type(value) is complex and math.isfinite(abs(value)):
        return {"complex": [value.real, value.imag]}
    if value is ...:
        return {"ellipsis": True}
    return _encode_structure(value)


def decode(data: Any, nodes: Mapping[str, fx.Node]) -> Any:
    """Reads what `encode` wrote. Accelerator devices become the cpu.

    Raises: ArchiveError if the data is nothing that `encode` writes.

    Example:
        >>> decode({"tuple": [1, {"torch": "float32"}]}, {})
        (1, torch.float32)
    """
    if isinstance(data, list):
        return [decode(item, nodes) for item in data]
    if isinstance(data, str):
        return "cpu" if _ACCELERATOR.fullmatch(data) else data
    if not isinstance(data, dict):
        return data
    if len(data) != 1:
        raise ArchiveError(f"the file holds a value of no known kind: {str(data)[:80]}")
    ((kind, content),) = data.items()
    if kind == "node":
        if content not in nodes:
            raise ArchiveError(f"the file uses node {content!r} before it defines it")
        return nodes[content]
    return _decode_structure(kind, content, nodes)


def identifier(name: object) -> str:
    """Returns a name that is safe to stand in generated code, unchanged.

    Raises: ArchiveError if it is no Python identifier, or one that Python reads as another.
    """
    # NFKC: Python would read a fullwidth "key" as "key", after every check was passed
    if not isinstance(name, str) or not name.isidentifier() or normalize("NFKC", name) != name:
        raise ArchiveError(f"the file holds {name!r} where a name must stand")
    return name


def dtype_from(name: object) -> torch.dtype:
    """Returns the dtype of a name such as "float32".

    Raises: ArchiveError if torch has none of that name.
    """
    dtype = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(dtype, torch.dtype):
        raise ArchiveError(f"the file holds {name!r} where a dtype must stand")
    return dtype


def _encode_structure(value: Any) -> Any:
    if isinstance(value, torch.Size):
        return {"size": [encode(item) for item in value]}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {"namedtuple": [*describe(value), [encode(item) for item in value]]}
    if isinstance(value, tuple):
        return {"tuple": [encode(item) for item in value]}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, slice):
        return {"slice": [encode(v) for v in (value.start, value.stop, value.step)]}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if isinstance(value, dict) and all(type(key) in (str, int) for key in value):
        return {"dict": [[key, encode(item)] for key, item in value.items()]}
    if isinstance(value, _TORCH_NAMES):
        return {"torch": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    raise ArchiveError(
        f"the graph has the argument {str(value)[:80]} of type {type(value).__qualname__}, which a "
        ".gfx file cannot hold; save as .pt instead"
    )


def _decode_structure(kind: str, content: Any, nodes: Mapping[str, fx.Node]) -> Any:
    match kind:
        case "tuple":
            return tuple(decode(item, nodes) for item in content)
        case "namedtuple":
            module, name, fields, items = content
            return stand_in(module, name, fields)(*(decode(item, nodes) for item in items))
        case "size":
            return torch.Size(decode(content, nodes))
        case "slice":
            return slice(*(decode(item, nodes) for item in content))
        case "range":
            return range(*(int(item) for item in content))
        case "dict":
            return {_key(key): decode(item, nodes) for key, item in content}
        case "float" if content in ("inf", "-inf", "nan"):
            return float(content)
        case "complex":
            return complex(*(float(part) for part in content))
        case "ellipsis":
            return ...
        case "device":
            return _device(content)
        case "torch" if isinstance(getattr(torch, str(content), None), _TORCH_NAMES):
            return getattr(torch, content)
    raise ArchiveError(f"the file holds a value of no known kind: {kind!r}: {str(content)[:80]}")


def _device(content: Any) -> torch.device:
    device = torch.device(str(content))
    return device if device.type == "meta" else torch.device("cpu")


def _key(key: Any) -> Any:
    if type(key) not in (str, int):
        raise ArchiveError(f"the file holds {key!r} where a dictionary key must stand")
    return key


def write_graph(graph: fx.Graph) -> list[dict[str, Any]]:
    """Writes each node as name, op, target, args and kwargs.

    Raises: ArchiveError if a node calls or holds something that a file cannot name.
    """
    if not is_plain_call(graph):
        raise ArchiveError(
            "the graph packs its inputs into containers (it comes from torch.export); "
            "run gfx.trace on it first"
        )
    return [_write_node(node) for node in graph.nodes]


def read_graph(items: list[dict[str, Any]]) -> fx.Graph:
    """Builds the graph that `write_graph` wrote.

    fx turns a graph into Python source, so every name that will stand in it is checked here.

    Raises: ArchiveError if a target is not on the allow-list or a name is not one.
    """
    graph = fx.Graph()
    nodes: dict[str, fx.Node] = {}
    for item in items:
        name, op = identifier(item["name"]), item["op"]
        if name in nodes:
            raise ArchiveError(f"the file defines node {name} twice")
        args = tuple(decode(arg, nodes) for arg in item["args"])
        kwargs = {identifier(key): decode(value, nodes) for key, value in item["kwargs"].items()}
        target = _read_target(op, item["target"], args, kwargs)
        nodes[name] = graph.create_node(op, target, args, kwargs, name)
    graph.lint()
    return graph


def check_path(path: object) -> str:
    """Returns a dotted module path that is safe to stand in generated code, unchanged.

    Raises: ArchiveError if it is empty, holds quotes, backslashes or control characters, reaches
        for Python's own attributes (__class__), or is a spelling that Python reads as another.
    """
    text = path if isinstance(path, str) else ""
    safe = text.isprintable() and not any(mark in text for mark in "\"'\\{}")
    atoms = text.split(".")
    plain = all(atoms) and not any(atom.startswith("__") for atom in atoms)
    if not safe or not plain or normalize("NFKC", text) != text:
        raise ArchiveError(f"{path!r} is no module path that a file can hold")
    return text


def _write_node(node: fx.Node) -> dict[str, Any]:
    target: Any = node.target
    if node.op == "call_function":
        target = targets.function_name(target)
    try:
        args = [encode(arg) for arg in node.args]
        kwargs = {key: encode(value) for key, value in node.kwargs.items()}
        _read_target(node.op, target, node.args, dict(node.kwargs))
    except ArchiveError as error:
        raise ArchiveError(f"node {node.name}: {error}") from error
    return {"name": node.name, "op": node.op, "target": target, "args": args, "kwargs": kwargs}


def _read_target(op: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Resolves a target and checks that it may be called so."""
    match op:
        case "placeholder":
            name = identifier(str(target).lstrip("*"))
            if keyword.iskeyword(name) or str(target).count("*") > 2:
                raise ArchiveError(f"{target!r} is no name of an input")
            return target
        case "get_attr" | "call_module":
            return check_path(target)
        case "call_method":
            if not args or not isinstance(args[0], fx.Node):
                raise ArchiveError(f"the method {target} is not called on a node")
            return targets.check_method(target)
        case "call_function":
            function = targets.resolve_function(target)
            if function is getattr:
                _check_getattr(args, kwargs)
            if "key" in kwargs:
                raise ArchiveError(f"{target} is called with key=, which would call a function")
            return function
        case "output":
            return "output"
    raise ArchiveError(f"the file holds a node of no known kind: {op!r}")


def _check_getattr(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if len(args) not in (2, 3) or kwargs or not isinstance(args[0], fx.Node):
        raise ArchiveError("getattr is not called as getattr(node, name)")
    targets.check_attribute(args[1])
