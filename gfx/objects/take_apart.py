"""Takes objects among the inputs and outputs of a model apart into plain containers.

1. Dataclasses, attrs classes, mappings, classes that torch.utils._pytree knows and plain objects
   that hold tensors become dictionaries of their fields, at any depth.
2. A form says how the object is made of them again. There is one where a class can be imported by
   name, and its constructor does nothing but keep what it is given: that is tried on stand-ins for
   the tensors. Otherwise the class is lost, with a reason.
3. Named tuples become tuples, unless they are to stay; torch's own tuples stay what they are.
4. An object with a field that is neither tensor, container nor plain value stays as it is, and the
   front ends refuse it.
"""

import ast
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx
from torch.fx.immutable_collections import immutable_dict, immutable_list
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

from gfx.objects.object_form import (
    Build,
    ObjectForm,
    are_same,
    attributes,
    class_name,
    field_names,
    parts_by_name,
    put_together,
)

__all__ = ["leaves", "mapped", "plain", "take_apart"]

_VALUES = (
    torch.Tensor, fx.Proxy, type(None), bool, int, float, complex, str,
    torch.SymInt, torch.SymFloat, torch.SymBool, torch.dtype, torch.device, torch.Size,
)  # fmt: skip
_LOCAL = "it is defined inside of a function, so that no file can name it"
_KINDS: dict[Any, Any] = {
    list: list,
    tuple: tuple,
    dict: dict,
    immutable_list: list,
    immutable_dict: dict,
}


def take_apart(
    value: Any, lost: dict[str, str] | None = None, *, named: bool = True
) -> tuple[Any, ObjectForm | None]:
    """Returns a value with dictionaries in the place of objects, and how to undo that.

    The form is None where nothing was taken apart. The names of classes that cannot be made again
    are added to `lost`, with the reasons. With `named=False`, named tuples stay what they are.

    Example:
        >>> from types import SimpleNamespace
        >>> lost = {}
        >>> take_apart([SimpleNamespace(image=torch.zeros(1), kind="rgb")], lost)
        ([{'image': tensor([0.]), 'kind': 'rgb'}], None)
        >>> lost
        {'SimpleNamespace': 'it is neither a dataclass nor known to torch.utils._pytree'}
    """
    if isinstance(value, _VALUES):
        return value, None
    if type(value) in _KINDS:
        return _container(value, _KINDS[type(value)], lost, named)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return _named_tuple(value, lost, named)
    parts = _parts(value)
    if parts is None:
        return value, None
    gone: dict[str, str] = {}
    content, inner = _container(parts, type(parts), gone, named)
    if not all(isinstance(leaf, _VALUES) for leaf in pytree.tree_leaves(content)):
        return value, None  # rule 4
    form, reason = _form(value, parts, content, inner)
    if form is None:
        gone[type(value).__name__] = reason
    if lost is not None:
        lost.update(gone)
    return content, inner if form is None else form


def plain(value: Any) -> Any:
    """Returns a value with its objects taken apart.

    Example:
        >>> plain({"a": torch.Size([1])})
        {'a': torch.Size([1])}
    """
    return value if isinstance(value, torch.Tensor) else take_apart(value)[0]


def leaves(value: Any) -> list[Any]:
    """Lists what is in a nested value, also in the objects of it.

    Example:
        >>> leaves([1, {"a": (2, 3)}])
        [1, 2, 3]
    """
    return pytree.tree_leaves(plain(value))


def mapped(change: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """Changes every tensor of a nested value, in new containers and objects.

    Example:
        >>> mapped(torch.neg, [torch.ones(1), 2])
        [tensor([-1.]), 2]
    """
    content, form = take_apart(value)
    changed = pytree.tree_map_only(torch.Tensor, change, content)
    return changed if form is None else put_together(changed, form)


def _container(
    value: Any, kind: Any, lost: dict[str, str] | None, named: bool
) -> tuple[Any, ObjectForm | None]:
    """Takes apart what is in a list, tuple or dictionary."""
    pairs = value.items() if kind is dict else enumerate(value)
    found = {key: take_apart(part, lost, named=named) for key, part in pairs}
    inside = tuple((key, form) for key, (_, form) in found.items() if form is not None)
    new: Any = {key: part for key, (part, _) in found.items()}
    if kind is not dict:
        new = kind(new.values())
    return new, ObjectForm(None, "inside", (), inside) if inside else None


def _named_tuple(
    value: Any, lost: dict[str, str] | None, named: bool
) -> tuple[Any, ObjectForm | None]:
    """Applies rule 3."""
    new, form = _container(value, tuple, lost, named)
    kind: Any = type(value)
    if not named:
        return kind(*new), form
    if class_name(kind) is None:
        if lost is not None:
            lost[kind.__name__] = _LOCAL
        return new, form
    return new, ObjectForm(kind, "tuple", kind._fields, () if form is None else form.inside)


def _parts(value: Any) -> Any:
    """Returns the parts of an object: a dictionary by name, or a list; None if it has none."""
    if isinstance(value, type) or (callable(value) and not isinstance(value, Mapping)):
        return None
    parts = parts_by_name(value)
    if parts is not None or isinstance(value, tuple):
        return parts  # None of a tuple: rule 3
    names = [name for name in attributes(value) if not name.startswith("_")]
    return {name: getattr(value, name) for name in names} if names else None


def _form(
    value: Any, parts: Any, content: Any, inner: ObjectForm | None
) -> tuple[ObjectForm | None, str]:
    """Finds how an object is made of its parts (rule 2); with the reason if there is no way."""
    kind: Any = type(value)
    ways: list[tuple[Build, Any]] = []
    if field_names(value) is not None or isinstance(value, Mapping):
        ways.append(("fields", _arguments(kind)))
    if isinstance(value, Mapping):
        ways.append(("mapping", ()))
    if kind in pytree.SUPPORTED_NODES:
        children, context = pytree.SUPPORTED_NODES[kind].flatten_fn(value)
        values = list(parts.values()) if isinstance(parts, dict) else parts
        if are_same(list(children), values):
            ways.append(("node", context))
    if not ways:
        return None, "it is neither a dataclass nor known to torch.utils._pytree"
    if class_name(kind) is None:
        return None, _LOCAL
    inside = inner.inside if inner is not None else ()
    for build, context in ways:
        form = ObjectForm(kind, build, context, inside)
        if _is_literal(context) and _makes_again(value, content, form):
            return form, ""
    return None, "its constructor does more than keep its fields"


def _arguments(kind: Any) -> tuple[tuple[str, str], ...]:
    """Lists arguments of the constructor of an attrs class that are not the names of its fields."""
    found = []
    for field in getattr(kind, "__attrs_attrs__", ()):
        argument = getattr(field, "alias", None) or field.name.lstrip("_")
        if argument != field.name:
            found.append((field.name, argument))
    return tuple(found)


def _makes_again(value: Any, content: Any, form: ObjectForm) -> bool:
    """Whether a form makes an object that holds what the given one does."""
    with _disable_current_modes():
        stand_ins: dict[int, torch.Tensor] = {}

        def stand_in(leaf: Any) -> Any:
            if not isinstance(leaf, torch.Tensor | fx.Proxy):
                return leaf
            return stand_ins.setdefault(id(leaf), torch.empty(0, device="meta"))

        given = pytree.tree_map(stand_in, content)
        try:
            made = put_together(given, form)
            wanted, found = _state(value), _state(made)
        except Exception:  # of the class: it asks more of its fields than to be there
            return False
        written = any(tensor._version for tensor in stand_ins.values())
        return type(made) is type(value) and not written and _same(wanted, found, stand_ins)


def _state(value: Any) -> Any:
    """Returns all that an object holds."""
    held = {name: getattr(value, name) for name in attributes(value)}
    return held, dict(value) if isinstance(value, Mapping) else None


def _same(wanted: Any, found: Any, stand_ins: dict[int, torch.Tensor]) -> bool:
    """Whether a value is another one with stand-ins for its tensors."""
    if isinstance(wanted, torch.Tensor | fx.Proxy):
        return found is stand_ins.get(id(wanted))
    if type(wanted) is not type(found):  # of a class that is lost: a dictionary stands there
        apart = take_apart(wanted)[0]
        return type(apart) is type(found) and apart is not wanted and _same(apart, found, stand_ins)
    if isinstance(wanted, list | tuple):
        # a named tuple among the parts was made again
        pairs = zip(wanted, found, strict=False)
        return len(wanted) == len(found) and all(_same(a, b, stand_ins) for a, b in pairs)
    if type(wanted) is dict:
        keys = list(wanted) == list(found)
        return keys and all(_same(wanted[key], found[key], stand_ins) for key in wanted)
    if isinstance(wanted, _VALUES):
        return bool(wanted == found)
    return _same(_state(wanted), _state(found), stand_ins)


def _is_literal(context: Any) -> bool:
    """Whether a value can stand in generated code."""
    try:
        return bool(ast.literal_eval(repr(context)) == context)
    except (ValueError, SyntaxError):
        return False
