"""Writes which objects a graph takes and returns, and reads it back without importing a class.

A file names each class, and how it is made of its fields. A reader makes dictionaries with
attribute access; only one who trusts the file has the classes imported.
"""

import inspect
import keyword
from collections import OrderedDict
from typing import Any

from torch import fx
from torch.utils import _pytree as pytree

from gfx.errors import ArchiveError
from gfx.io.archive.graph_json import decode, encode
from gfx.io.archive.named_tuples import imported
from gfx.objects.call_form import call_form, set_call_form
from gfx.objects.object_form import ObjectForm, class_name

__all__ = ["import_classes", "read_call", "write_call"]

_BUILDS = ("inside", "fields", "mapping", "node", "tuple")
_PLAIN: dict[Any, Any] = {("collections", "OrderedDict"): OrderedDict}  # there without trust
_OTHERWISE = "a dictionary of its fields"


def write_call(graph: fx.Graph) -> dict[str, Any] | None:
    """Describes the objects that a graph takes and returns; None if there are none.

    Raises: ArchiveError if a file cannot name one.
    """
    form = call_form(graph)
    if form.output is None and not any(form.inputs):
        return None
    return {
        "inputs": [None if part is None else _written(part) for part in form.inputs],
        "output": None if form.output is None else _written(form.output),
    }


def read_call(data: Any, graph: fx.Graph) -> None:
    """Lets a graph take and return what a file describes; imports nothing.

    Raises: ArchiveError if the file describes no objects.
    """
    if data is None:
        return
    inputs = tuple(None if part is None else _read(part) for part in data["inputs"])
    output = None if data["output"] is None else _read(data["output"])
    set_call_form(graph, inputs, output)


def import_classes(graph: fx.Graph, file: object) -> None:
    """Imports the classes of the objects that a graph takes and returns.

    Raises: ArchiveError if one cannot be imported, or does not take the fields any more.
    """
    form = call_form(graph)
    inputs = tuple(None if part is None else _own(part, file) for part in form.inputs)
    output = None if form.output is None else _own(form.output, file)
    if output is not None:
        end = next(node for node in graph.nodes if node.op == "output")
        _check_fields(output, end.args[0], file)
    set_call_form(graph, inputs, output)


def _written(form: ObjectForm) -> dict[str, Any]:
    named = None if form.kind is None else class_name(form.kind)
    if form.kind is not None and named is None:
        raise ArchiveError(
            f"the graph returns a {form.kind}, which no file can name; save as .pt instead"
        )
    return {
        "class": None if named is None else list(named),
        "build": form.build,
        "context": encode(form.context),
        "inside": [[key, _written(part)] for key, part in form.inside],
    }


def _read(data: Any) -> ObjectForm:
    kind = data["class"]
    if kind is not None:
        module, name = kind
        if not all(isinstance(n, str) and _is_dotted(n) for n in (module, name)):
            raise ArchiveError(f"the file holds {kind!r} where the name of a class must stand")
        kind = _PLAIN.get((module, name), (module, name))
    inside = tuple((key, _read(part)) for key, part in data["inside"])
    keys = all(type(key) in (str, int) for key, _ in inside)
    if data["build"] not in _BUILDS or not keys:
        raise ArchiveError(f"the file holds an object of no known kind: {str(data)[:80]}")
    context = decode(data["context"], {})
    if data["build"] == "tuple":
        _check_names(context)
    return ObjectForm(kind, data["build"], context, inside)


def _check_names(fields: Any) -> None:
    """Raises ArchiveError if these are no fields of a named tuple."""
    known = isinstance(fields, tuple) and all(isinstance(f, str) for f in fields)
    words = [f for f in fields if f.isidentifier() and not keyword.iskeyword(f)] if known else []
    if not known or len(set(words)) < len(fields) or any(f.startswith("_") for f in words):
        raise ArchiveError(f"the file holds the fields {fields!r} of a named tuple")


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _own(form: ObjectForm, file: object) -> ObjectForm:
    kind: Any = form.kind
    if isinstance(kind, tuple):
        module, name = kind
        kind = imported(module, name, file, _OTHERWISE)
        if form.build == "tuple" and getattr(kind, "_fields", None) != form.context:
            raise ArchiveError(
                f"{file} returns a {module}.{name} with the fields {', '.join(form.context)}, and "
                "the one that is installed has others; open it without trust for a tuple of the "
                "same names"
            )
        if form.build == "node" and kind not in pytree.SUPPORTED_NODES:
            raise ArchiveError(
                f"{file} returns a {kind.__qualname__}, which torch.utils._pytree does not know; "
                f"register it, or open the file without trust for {_OTHERWISE}"
            )
    inside = tuple((key, _own(part, file)) for key, part in form.inside)
    return form._replace(kind=kind, inside=inside)


def _check_fields(form: ObjectForm, value: Any, file: object) -> None:
    """Raises ArchiveError if a class does not take the fields that the file has."""
    kind: Any = form.kind
    if form.build == "fields":
        names = dict(form.context)
        try:
            taken = inspect.signature(kind)
        except ValueError:  # it is written in C, and takes any
            return
        try:
            taken.bind(**{names.get(key, key): None for key in value})
        except TypeError as error:
            raise ArchiveError(
                f"{file} returns a {kind.__qualname__} with the fields {', '.join(value)}, and the "
                f"one that is installed takes others ({error}); open it without trust for "
                f"{_OTHERWISE}"
            ) from error
    for key, part in form.inside:
        _check_fields(part, value[key], file)
