"""Says how an object is put together from plain containers, and does it.

{"image": x, "mask": y}   and   ObjectForm(Picture, "fields")   →   Picture(image=x, mask=y)
"""

import operator
import sys
from collections import namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

from torch.utils import _pytree as pytree

__all__ = [
    "ClassName",
    "Fields",
    "ObjectForm",
    "are_same",
    "attributes",
    "class_name",
    "field_names",
    "forms_in",
    "named_tuple",
    "parts_by_name",
    "parts_of",
    "put_together",
]

ClassName = tuple[str, str]  # module and qualified name of a class that is not imported
Build = Literal["inside", "fields", "mapping", "node", "tuple"]


class ObjectForm(NamedTuple):
    """Says of what class a value is, and how its parts make it.

    - inside: a list, tuple or dictionary stays what it is; only some of its parts have forms.
    - fields: the class is called with the fields by name; `context` lists names of arguments that
      are not those of the fields.
    - mapping: the class is called with a dictionary.
    - tuple: the class is one of named tuples; `context` lists its fields.
    - node: torch.utils._pytree knows the class; `context` is what it noted beside the parts.

    Example:
        >>> ObjectForm(None, "inside", (), ((0, ObjectForm(dict, "mapping")),)).inside[0][0]
        0
    """

    kind: type | ClassName | None
    build: Build
    context: Any = ()
    inside: tuple[
        tuple[Any, "ObjectForm"], ...
    ] = ()  # the parts that have forms themselves, by key


class Fields(dict[str, Any]):
    """Stands for an object whose class is not imported: a dictionary with attribute access.

    Example:
        >>> Fields(image=1).image
        1
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no field {name}; there are {', '.join(self)}") from None

    def __reduce__(self) -> Any:
        return Fields, (dict(self),)


def put_together(value: Any, form: Any) -> Any:
    """Puts a value together from plain containers; `form` is a ObjectForm, or its parts as a tuple.

    Generated code of graphs calls it, and so may code that torch.compile follows.

    Example:
        >>> put_together({"real": 1, "imag": 2}, (complex, "fields"))
        (1+2j)
    """
    kind, build, context, inside = (*form, (), ())[:4]
    if inside:
        value = _replaced(value, inside)
    if kind is None:
        return value
    if isinstance(kind, tuple):
        if build == "tuple":
            return named_tuple(kind, context)(*value)
        return Fields(value) if isinstance(value, dict) and _are_names(value) else value
    if build == "tuple":
        return kind(*value)
    if build == "fields":
        names = dict(context)
        return kind(**{names.get(key, key): part for key, part in value.items()})
    if build == "mapping":
        return kind(value)
    parts = list(value.values()) if isinstance(value, dict) else list(value)
    return pytree.SUPPORTED_NODES[kind].unflatten_fn(parts, context)


def parts_of(value: Any, form: Any) -> Any:
    """Takes an object apart by a form that is known; what already is taken apart stays as it is.

    Example:
        >>> parts_of(Fields(a=1), ObjectForm(("nets", "Fields"), "fields"))
        {'a': 1}
    """
    kind, _, _, inside = (*form, (), ())[:4]
    if kind is not None and not isinstance(value, tuple):
        parts = parts_by_name(value)
        value = value if parts is None else parts
    for key, part in inside:
        value = _replaced(value, ((key, None),), parts_of(value[key], part))
    return value


@cache
def named_tuple(kind: ClassName, fields: tuple[str, ...]) -> Any:
    """Makes the class of named tuples that stands for one that is not imported.

    Example:
        >>> named_tuple(("nets", "Pair"), ("a", "b"))(1, 2)
        Pair(a=1, b=2)
    """
    make: Any = namedtuple  # what checks the fields knows them at run time only
    made = make(kind[1].rpartition(".")[2], fields)
    made.__doc__ = f"Stands for {'.'.join(kind)}; gfx.open_model(file, trust=True) imports that."
    return made


def field_names(value: Any) -> list[str] | None:
    """Lists the fields of a dataclass or attrs object; None if it is neither."""
    kind = type(value)
    if is_dataclass(kind):
        return [field.name for field in fields(kind)]
    if hasattr(kind, "__attrs_attrs__"):
        return [field.name for field in kind.__attrs_attrs__]
    return None


def parts_by_name(value: Any) -> Any:
    """Returns the parts of an object: a dictionary, or a list without names; None if it has none.

    Example:
        >>> parts_by_name(Fields(a=1))
        {'a': 1}
    """
    if isinstance(value, Mapping):
        return dict(value)
    names = field_names(value)
    if names is not None:
        return {name: getattr(value, name) for name in names if hasattr(value, name)}
    if type(value) not in pytree.SUPPORTED_NODES or isinstance(value, list | tuple):
        return None
    children = list(pytree.SUPPORTED_NODES[type(value)].flatten_fn(value)[0])
    held = {n: getattr(value, n) for n in attributes(value) if not n.startswith("_")}
    return held if are_same(list(held.values()), children) else children


def are_same(values: list[Any], others: list[Any]) -> bool:
    """Whether two lists hold the same objects."""
    return len(values) == len(others) and all(map(operator.is_, values, others))


def attributes(value: Any) -> list[str]:
    """Lists what an object holds: what its dictionary and its slots name."""
    names = list(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        names += [slots] if isinstance(slots, str) else list(slots)
    hidden = ("__dict__", "__weakref__")
    return [n for n in dict.fromkeys(names) if n not in hidden and hasattr(value, n)]


def class_name(kind: Any) -> ClassName | None:
    """Names a class by module and qualified name; None if it is not found there.

    A class that stands for another is named as that.

    Example:
        >>> class_name(Fields)
        ('gfx.objects.object_form', 'Fields')
    """
    if isinstance(kind, tuple):
        return kind
    found: Any = sys.modules.get(kind.__module__)
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    return (kind.__module__, kind.__qualname__) if found is kind else None


def forms_in(form: ObjectForm | None) -> Iterator[ObjectForm]:
    """Iterates over a form and the forms inside of it."""
    if form is not None:
        yield form
        for _, part in form.inside:
            yield from forms_in(part)


def _are_names(value: dict[Any, Any]) -> bool:
    return all(isinstance(key, str) for key in value)


def _replaced(value: Any, inside: Any, *new: Any) -> Any:
    """Returns a container with some of its parts put together, or with one new part."""
    if isinstance(value, dict):
        items = dict(value)
        for key, form in inside:
            items[key] = new[0] if new else put_together(items[key], form)
        return items
    parts = list(value)
    for key, form in inside:
        parts[key] = new[0] if new else put_together(parts[key], form)
    if not isinstance(value, tuple):
        return parts
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
