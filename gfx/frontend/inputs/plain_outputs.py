"""Takes objects that a forward returns apart into dictionaries of their fields.

1. Dataclasses, attrs classes and plain objects that hold tensors become dictionaries, also inside
   of lists, tuples and dictionaries. So do dictionaries of a class that torch does not know.
2. What torch knows (NamedTuple, OrderedDict, the outputs of diffusers) stays what it is.
3. An object with a field that is neither tensor, container nor plain value stays as it is, and the
   front ends refuse it.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

__all__ = ["plain_output"]

_VALUES = (
    torch.Tensor, fx.Proxy, type(None), bool, int, float, complex, str,
    torch.SymInt, torch.SymFloat, torch.SymBool, torch.dtype, torch.device, torch.Size,
)  # fmt: skip


def plain_output(value: Any, found: set[str] | None = None) -> Any:
    """Returns what a forward returned, with dictionaries in the place of objects.

    The names of the classes taken apart are added to `found`.

    Example:
        >>> from types import SimpleNamespace
        >>> plain_output([SimpleNamespace(image=torch.zeros(1), kind="rgb")])
        [{'image': tensor([0.]), 'kind': 'rgb'}]
    """
    kind = type(value)
    if isinstance(value, _VALUES):
        return value
    if kind in (list, tuple):
        return kind([plain_output(item, found) for item in value])
    if kind is dict:
        return {key: plain_output(item, found) for key, item in value.items()}
    inside = dict(value) if isinstance(value, Mapping) else _fields(value)
    known = kind in pytree.SUPPORTED_NODES and isinstance(value, tuple | list | Mapping)
    if inside is None or known or hasattr(kind, "_fields"):
        return value
    seen: set[str] = set()
    plain = {key: plain_output(item, seen) for key, item in inside.items()}
    leaves = pytree.tree_leaves(plain)
    whole = all(isinstance(leaf, _VALUES) for leaf in leaves)
    if not whole or not any(isinstance(leaf, torch.Tensor | fx.Proxy) for leaf in leaves):
        return value
    if found is not None:
        found |= seen | {kind.__name__}
    return plain


def _fields(value: Any) -> dict[str, Any] | None:
    """Returns the fields of an object by name; None if it is no object with fields."""
    if isinstance(value, type) or callable(value):
        return None
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    attrs = getattr(type(value), "__attrs_attrs__", None)
    if attrs is not None:
        return {field.name: getattr(value, field.name) for field in attrs}
    names = [*getattr(value, "__dict__", {})]
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        names += [slots] if isinstance(slots, str) else list(slots)
    public = [name for name in names if not name.startswith("_") and hasattr(value, name)]
    return {name: getattr(value, name) for name in public} if public else None
