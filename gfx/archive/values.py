"""Argument values as JSON: plain data stays plain, everything else becomes {kind: content}."""

import math
import re
from collections.abc import Mapping
from typing import Any
from unicodedata import normalize

import numpy as np
import torch
from torch import fx

from gfx.errors import ArchiveError

__all__ = ["decode", "dtype_from", "encode", "identifier"]

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
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
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
