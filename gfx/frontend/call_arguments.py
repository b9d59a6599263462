"""Writes the arguments of a graph's calls in one form, and checks that code can spell them.

Before   conv2d(input=x, weight=w, padding=1)      sum(x, axis=1)
After    conv2d(x, w, padding=1)                   sum(x, 1)

1. An argument given by name moves to its place, up to the first that is not given: so a call by
   name and the same call by place are one graph, and what comes first is always `node.args[0]`.
2. The names that torch takes for numpy's sake (`axis`, `keepdims`, `x1`) become torch's own.
3. A layer whose hooks read arguments by name is called as it was.
4. What no code can spell (an iterator, a file, a function, a generator of random numbers) is
   refused: the graph would hold a thing of one run.
"""

import enum
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import fx, nn
from torch._jit_internal import boolean_dispatched

from gfx.frontend.refusal import Refusal

__all__ = ["by_place", "require_spelled"]

# the names of an argument beside the one in its schema, torch's own first
_OTHER_NAMES = {
    "self": ("input", "x", "a", "x1"),
    "other": ("x2",),
    "dim": ("axis", "axes"),
    "keepdim": ("keepdims",),
}
_BY_NAME = "inplace"
_OBSOLETE = ("size_average", "reduce")  # of the losses of torch.nn.functional
_PLACED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

_PLAIN = (
    fx.Node, type(None), bool, int, float, complex, str, bytes, type(...), range, enum.Enum,
    torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size,
    torch._ops.OpOverload, torch._ops.HigherOrderOperator,
)  # fmt: skip


def by_place(module: nn.Module, graph: fx.Graph) -> bool:
    """Gives the arguments of every call their places (rules 1 to 3); says whether any moved.

    Example:
        >>> graph = fx.Graph()
        >>> x = graph.placeholder("x")
        >>> node = graph.call_function(torch.sum, (), {"input": x, "axis": 1})
        >>> by_place(nn.Module(), graph), node.args, dict(node.kwargs)
        (True, (x, 1), {})
    """
    moved = False
    for node in graph.nodes:
        if not node.kwargs and not (node.op == "call_function" and len(node.args) > 1):
            continue
        args, kwargs = _placed(module, node)
        if kwargs.keys() != node.kwargs.keys():
            node.args, node.kwargs, moved = args, kwargs, True
    return moved


def require_spelled(module: nn.Module, graph: fx.Graph) -> None:
    """Checks that code can spell every argument of a graph (rule 4).

    Raises: Refusal naming the call and what it is given.
    """
    for node in graph.nodes:
        if node.op == "get_attr" and not _holds(module, str(node.target)):
            # the tracer kept what is no tensor, such as a torch.Generator, under a name of its own
            raise Refusal("forward hands on an object that is no tensor and made by one run")
        odd = next(_unspelled((node.args, node.kwargs)), None)
        if odd is None:
            continue
        kind = type(odd)
        name = (
            kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
        )
        callee = node.target if isinstance(node.target, str) else torch.typename(node.target)
        raise Refusal(
            f"{callee} is given an object of the class {name}, which the code of a graph cannot "
            "spell; give it tensors, numbers, strings, or lists and tuples of them",
            _caller(node),
        )


def _holds(module: nn.Module, path: str) -> bool:
    """Whether something is at a dotted path below a module."""
    found: Any = module
    for name in path.split("."):
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True


def _unspelled(value: Any) -> Iterator[Any]:
    """Yields what no code can spell."""
    if isinstance(value, _PLAIN):
        return
    if isinstance(value, slice):
        yield from _unspelled((value.start, value.stop, value.step))
    elif isinstance(value, dict):
        yield from _unspelled((*value.keys(), *value.values()))
    elif isinstance(value, tuple | list | set | frozenset):
        for item in value:
            yield from _unspelled(item)
    else:
        yield value


def _caller(node: fx.Node) -> str:
    """Names the module whose forward makes a call, "" for the model's own."""
    stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    paths = [
        path for path in stack if path and not (node.op == "call_module" and path == node.target)
    ]
    return str(paths[-1]) if paths else ""


def _placed(module: nn.Module, node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns a call's arguments, those by name at their places."""
    target: Any = node.target
    if node.op == "call_module":
        layer = module.get_submodule(target)
        by_name = layer._forward_pre_hooks_with_kwargs or layer._forward_hooks_with_kwargs
        if by_name:  # rule 3
            return node.args, dict(node.kwargs)
        return _python_places(layer.forward, node.args, node.kwargs)
    if node.op == "call_method":
        target = getattr(torch.Tensor, target, None)
    elif node.op != "call_function":
        return node.args, dict(node.kwargs)
    target = boolean_dispatched[target]["if_true"] if target in boolean_dispatched else target
    if isinstance(target, FunctionType | type):
        return _python_places(target, node.args, node.kwargs)
    return _torch_places(target, node.args, node.kwargs)


def _python_places(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    # what others wrap may pass on other arguments than it takes
    torch_own = str(getattr(function, "__module__", "")).startswith("torch.")
    try:
        signature = inspect.signature(function, follow_wrapped=torch_own)
    except (TypeError, ValueError):
        return args, dict(kwargs)
    names = []
    for parameter in signature.parameters.values():
        if parameter.kind not in _PLACED:
            break
        names.append(parameter.name)
    if torch_own and names[-1:] == [_BY_NAME] and len(args) <= len(names):
        names.remove(_BY_NAME)  # the last one of every function of torch that has it
        kwargs = {**kwargs, **dict(zip([_BY_NAME], args[len(names) :], strict=False))}
        args = args[: len(names)]
    if _OBSOLETE[0] in names and len(args) <= names.index(_OBSOLETE[0]):
        # operations have no places for these, so what comes after is known by its name
        names = names[: names.index(_OBSOLETE[0])]
        gone = [name for name in _OBSOLETE if kwargs.get(name) is None]
        kwargs = {name: value for name, value in kwargs.items() if name not in gone}
    return _moved(names, args, kwargs)


def _torch_places(
    operation: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Places arguments by the first schema of an operation that takes all of them."""
    for schema in _schemas(operation):
        names = [argument.name for argument in schema.arguments]
        own = _own_names(kwargs, names)
        placed = [a.name for a in schema.arguments if not a.kwarg_only]
        taken = {*placed[: len(args)], *own}
        double = len(taken) < min(len(args), len(placed)) + len(own)
        needed = {a.name for a in schema.arguments if not a.has_default_value()}
        if double or len(args) > len(placed) or not own.keys() <= set(names) or not needed <= taken:
            continue
        args, own = _moved(placed, args, own)
        return args, {_spelled(name): value for name, value in own.items()}
    return args, dict(kwargs)


def _schemas(operation: Any) -> Sequence[Any]:
    """Lists the schemas of a function or method of torch that is not written in Python."""
    if isinstance(operation, torch._ops.OpOverload):
        return [operation._schema]
    find: Any = torch.jit._builtins._find_builtin
    known = find(operation)
    name = known or f"aten::{getattr(operation, '__name__', '')}"
    try:
        return torch._C._jit_get_schemas_for_operator(name)
    except RuntimeError:  # no such operation
        return []


def _own_names(kwargs: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Renames arguments to what a schema calls them (rule 2)."""
    own = {other: name for name in names for other in _OTHER_NAMES.get(name, ())}
    return {key if key in names else own.get(key, key): value for key, value in kwargs.items()}


def _spelled(name: str) -> str:
    """Returns how Python spells an argument of a schema."""
    return "input" if name == "self" else name


def _moved(
    names: Sequence[str], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Applies rule 1."""
    left, placed = dict(kwargs), list(args)
    for name in names[len(args) :]:
        if name not in left:
            break
        placed.append(left.pop(name))
    return tuple(placed), left
