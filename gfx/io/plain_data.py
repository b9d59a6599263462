"""Converts plain data (YAML, JSON) to typed values and back, checked against annotations.

`coerce` reads (lists become tuples, mappings become dataclasses), `plain` writes back;
`coerce(plain(x), kind) == x` for every x of a kind below.
"""

import dataclasses
import json
import types
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

__all__ = ["canonical", "coerce", "describe", "plain", "shown"]

_SHOWN = 100  # characters of a value in a message

_NAMES: dict[Any, str] = {
    float: "a number",
    int: "an integer",
    bool: "true or false",
    str: "text",
    Path: "a path",
    type(None): "nothing",
}


def coerce(value: Any, kind: Any) -> Any:
    """Reads a value as the annotated type.

    Raises: TypeError that says what was expected and what was found.

    Example:
        >>> coerce(["to_rgb", "stem.*"], tuple[str, ...])
        ('to_rgb', 'stem.*')
        >>> coerce("big", float)
        Traceback (most recent call last):
        TypeError: expected a number, got 'big'
    """
    if kind is Any or kind is object:
        return value
    if kind in _NAMES:
        return _scalar(value, kind)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _union(value, kind)
    if origin is Literal:
        return _literal(value, kind)
    if (origin or kind) in (tuple, list):
        return _sequence(value, kind)
    if isinstance(origin or kind, type) and issubclass(origin or kind, Mapping):
        return _mapping(value, kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum(value, kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _record(value, kind)
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    raise _mismatch(value, kind)


def describe(kind: Any) -> str:
    """Describes in words what a type annotation accepts.

    Example:
        >>> describe(float | None), describe(Literal["l1", "l2"])
        ('a number or nothing', "one of 'l1', 'l2'")
    """
    if kind in _NAMES:
        return _NAMES[kind]
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(arg) for arg in args)
    if origin is Literal:
        return "one of " + ", ".join(repr(arg) for arg in args)
    if origin in (tuple, list) and len(args) == 2 and args[1] is not Ellipsis:
        return "a list of " + " and ".join(describe(arg) for arg in args)
    if (origin or kind) in (tuple, list):
        return f"a list of {describe(args[0])}" if args else "a list"
    if isinstance(origin or kind, type) and issubclass(origin or kind, Mapping):
        return f"a mapping of {describe(args[0])} to {describe(args[1])}" if args else "a mapping"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of " + ", ".join(repr(member.value) for member in kind)
    return str(getattr(kind, "__name__", kind))


def plain(value: Any) -> Any:
    """Writes a value as plain data: what JSON and YAML can hold.

    Anything unknown becomes its `str`.

    Example:
        >>> plain({"keep": ("to_rgb",), 1: Path("a.yaml")})
        {'keep': ['to_rgb'], '1': 'a.yaml'}
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        if set(map(type, value)) == {int}:
            return list(value)  # thousands of channels
        return [plain(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(v) for v in value), key=repr)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if callable(getattr(value, "item", None)) and getattr(value, "ndim", None) == 0:
        return plain(value.item())  # a number of numpy or torch
    return str(value)


def canonical(data: Any) -> bytes:
    """Writes plain data as JSON that does not depend on how it was laid out.

    Example:
        >>> canonical({"b": 1, "a": (2,)}) == canonical({"a": [2], "b": 1})
        True
    """
    return json.dumps(json.loads(json.dumps(data)), sort_keys=True).encode()


def shown(value: Any) -> str:
    """Writes a value in a message: short, whatever it is.

    Example:
        >>> shown("x"), len(shown("x" * 10_000))
        ("'x'", 103)
    """
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = repr(value)
    except Exception:  # an object of another's making
        text = f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _scalar(value: Any, kind: Any) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # an integer of a thousand digits
            raise _mismatch(value, kind) from None
    if kind is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise _mismatch(value, kind)
    return value


def _union(value: Any, kind: Any) -> Any:
    for arg in get_args(kind):
        # an int stays an int where both are allowed, whatever the order they are written in
        if type(value) is arg:
            return value
    some = [arg for arg in get_args(kind) if arg is not type(None)]
    if len(some) == 1:
        return coerce(value, some[0])  # its own message is more exact
    for arg in some:
        try:
            return coerce(value, arg)
        except TypeError:
            continue
    raise _mismatch(value, kind)


def _literal(value: Any, kind: Any) -> Any:
    for arg in get_args(kind):
        if type(arg) is type(value) and arg == value:
            return value
    raise _mismatch(value, kind)


def _sequence(value: Any, kind: Any) -> Any:
    origin, args = get_origin(kind) or kind, get_args(kind)
    if isinstance(value, str) and args and args[0] is str:
        value = (value,)  # one name needs no list
    if not isinstance(value, list | tuple):
        raise _mismatch(value, kind)
    if origin is tuple and args and args[-1] is not Ellipsis:
        if len(args) != len(value):
            raise _mismatch(value, kind)
        return tuple(coerce(v, arg) for v, arg in zip(value, args, strict=True))
    return origin(coerce(v, args[0] if args else Any) for v in value)


def _mapping(value: Any, kind: Any) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise _mismatch(value, kind)
    key, item = get_args(kind) or (Any, Any)
    return {coerce(k, key): coerce(v, item) for k, v in value.items()}


def _enum(value: Any, kind: type[Enum]) -> Enum:
    for member in kind:
        if value is member or value == member.value:
            return member
    raise _mismatch(value, kind)


def _record(value: Any, kind: type) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise _mismatch(value, kind)
    hints = get_type_hints(kind)
    unknown = sorted(set(map(str, value)) - {f.name for f in dataclasses.fields(kind)})
    if unknown:
        raise TypeError(f"{kind.__name__} has no field {unknown[0]!r}")
    try:
        return kind(**{k: coerce(v, hints[k]) for k, v in value.items()})
    except TypeError as error:
        raise TypeError(f"{kind.__name__}: {error}") from error


def _mismatch(value: Any, kind: Any) -> TypeError:
    return TypeError(f"expected {describe(kind)}, got {shown(value)}")
