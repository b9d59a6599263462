"""Follows forward hooks of layers into the graph, and keeps what hooks write to themselves.

A layer is one step of a graph, so that torch.fx would not run its hooks. Here they run on the
traced result: what a hook keeps and the forward reads again is an edge of the graph, and what it
returns is what the next step reads. A hook that does not run on a traced value stays on its layer.
"""

import collections
import copy
import functools
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from torch import fx, nn

__all__ = ["functions_of", "hook_names", "leave_hooks", "outside_containers", "rebind", "run_hooks"]

_CONTAINERS: tuple[type, ...] = (list, dict, set, collections.deque)
_FUNCTIONS: tuple[type, ...] = (types.FunctionType, types.MethodType, functools.partial)
_MOST = 10_000  # items of a container that is looked after
_HOOKS = ("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called")


_MARK = "gfx_hooks_followed"


def run_hooks(module: nn.Module, result: fx.Proxy, args: Any, kwargs: Any) -> tuple[Any, bool]:
    """Runs the forward hooks of a layer on its traced result; returns theirs and whether they ran.

    Nodes of hooks that fail are taken out of the graph again.
    """
    changed: Any = result
    try:
        for key, hook in module._forward_hooks.items():
            given = (args, kwargs) if key in module._forward_hooks_with_kwargs else (args,)
            returned = hook(module, *given, changed)
            changed = changed if returned is None else returned
    except Exception:  # a hook is user code, and meets a traced value here
        for node in reversed(result.node.graph.nodes):
            if node is result.node:
                break
            node.graph.erase_node(node)
        return result, False
    result.node.meta[_MARK] = True
    return changed, True


def leave_hooks(module: fx.GraphModule) -> list[str]:
    """Takes the hooks that a graph has followed off its layers; returns what to tell of it.

    The layers are replaced by others of the same tensors: those of the model keep their hooks.
    """
    notes = []
    followed = {str(node.target) for node in module.graph.nodes if node.meta.pop(_MARK, False)}
    for path in sorted(followed):
        owner, _, name = path.rpartition(".")
        layer = module.get_submodule(path)
        notes.append(
            f"the forward hook {' and '.join(hook_names(layer))} of {path} is in the graph: "
            "the result does not call it"
        )
        twin = copy.copy(layer)
        for hooks in _HOOKS:
            vars(twin)[hooks] = OrderedDict()
        module.get_submodule(owner)._modules[name] = twin
    return notes


def hook_names(module: nn.Module) -> list[str]:
    """Lists the forward hooks of a module by the names of their functions.

    Example:
        >>> layer = nn.ReLU()
        >>> handle = layer.register_forward_hook(print)
        >>> hook_names(layer)
        ['print']
    """
    hooks = module._forward_hooks.values()
    return [getattr(hook, "__qualname__", type(hook).__name__) for hook in hooks]


def rebind(model: nn.Module, copies: dict[int, Any]) -> None:
    """Makes the functions that a copied model holds speak of the copy, not of the original.

    `copies` maps identities of objects to their copies. Functions are copied by reference, so a
    closure over the original model, or over a dictionary that is its attribute, would read and
    write there.
    """
    for part in model.modules():
        for hooks in (part._forward_hooks, part._forward_pre_hooks):
            for key, hook in hooks.items():
                hooks[key] = _rebound(hook, copies)
        for name, value in list(vars(part).items()):
            if isinstance(value, types.FunctionType):
                vars(part)[name] = _rebound(value, copies)
            elif isinstance(value, types.MethodType):
                vars(part)[name] = _spoken(value, copies)


def outside_containers(model: nn.Module) -> Iterator[Any]:
    """Iterates over containers outside of a model that its code may write to.

    Those that its hooks, methods, and the functions they call close over, have as a default or
    name; of an object, the dictionary of its attributes.
    """
    own = {id(part) for part in model.modules()}
    seen: set[int] = set()
    waiting = list(functions_of(model))
    while waiting:
        value = waiting.pop()
        if id(value) in seen or id(value) in own:
            continue
        seen.add(id(value))
        if isinstance(value, _FUNCTIONS):
            if not str(getattr(value, "__module__", "")).startswith(("torch", "gfx.")):
                waiting += _reached(value)
            continue
        held: Any = value if isinstance(value, _CONTAINERS) else vars(value)
        if len(held) <= _MOST:
            yield held


def functions_of(model: nn.Module) -> Iterator[Any]:
    """Iterates over the hooks of a model, and over the methods of its classes."""
    kinds = set()
    for part in model.modules():
        yield from (*part._forward_hooks.values(), *part._forward_pre_hooks.values())
        kinds |= {kind for kind in type(part).__mro__ if not kind.__module__.startswith("torch.")}
        yield from (v for v in vars(part).values() if isinstance(v, types.FunctionType))
    for kind in kinds - {object}:
        yield from (v for v in vars(kind).values() if isinstance(v, types.FunctionType))


def _reached(function: Any) -> Iterator[Any]:
    """Iterates over what a function was made with, or names, where that may hold something."""
    if isinstance(function, functools.partial):
        found = [function.func, *function.args, *function.keywords.values()]
    elif isinstance(function, types.MethodType):
        found = [function.__self__, function.__func__]
    else:
        found = [cell.cell_contents for cell in function.__closure__ or () if _full(cell)]
        found += function.__defaults__ or ()
        found += [function.__globals__.get(name) for name in function.__code__.co_names]
    for value in found:
        if isinstance(value, (*_FUNCTIONS, *_CONTAINERS)) or (
            hasattr(value, "__dict__") and not isinstance(value, type | types.ModuleType)
        ):
            yield value


def _rebound(hook: Callable[..., Any], copies: dict[int, Any]) -> Callable[..., Any]:
    if not isinstance(hook, types.FunctionType):
        return hook
    cells = hook.__closure__ or ()
    held = [cell.cell_contents if _full(cell) else cell for cell in cells]
    fresh_held = [_spoken(value, copies) for value in held]
    stale = [a is not b for a, b in zip(held, fresh_held, strict=True)]
    defaults = tuple(_spoken(value, copies) for value in hook.__defaults__ or ()) or None
    fresh = any(a is not b for a, b in zip(defaults or (), hook.__defaults__ or (), strict=True))
    if not any(stale) and not fresh:
        return hook
    closure = tuple(
        types.CellType(value) if old else cell
        for cell, old, value in zip(cells, stale, fresh_held, strict=True)
    )
    twin = types.FunctionType(
        hook.__code__, hook.__globals__, hook.__name__, defaults, closure or None
    )
    twin.__kwdefaults__ = hook.__kwdefaults__
    return functools.update_wrapper(twin, hook)


def _spoken(value: Any, copies: dict[int, Any]) -> Any:
    """Returns what a function holds, as it speaks of copies."""
    if id(value) in copies:
        return copies[id(value)]
    if isinstance(value, types.MethodType) and id(value.__self__) in copies:
        return types.MethodType(value.__func__, copies[id(value.__self__)])
    return value


def _full(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:  # a name that was not bound yet
        return False
    return True
