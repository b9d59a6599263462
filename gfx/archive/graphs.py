"""Graphs as a list of nodes, and back."""

import keyword
from typing import Any
from unicodedata import normalize

from torch import fx
from torch.fx.graph import CodeGen

from gfx.archive import targets
from gfx.archive.values import decode, encode, identifier
from gfx.errors import ArchiveError

__all__ = ["check_path", "read_graph", "write_graph"]


def write_graph(graph: fx.Graph) -> list[dict[str, Any]]:
    """Writes each node as name, op, target, args and kwargs.

    Raises: ArchiveError if a node calls or holds something that a file cannot name.
    """
    if type(graph._codegen) is not CodeGen:
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
