"""Finds what a forward keeps from one run to the next, and whether it asks for its mode.

A graph is one run. What a forward writes to its module, or to a container outside of it, may be
read by the next run; and a branch by `self.training` is decided while it is traced.
"""

import types
from typing import Any

from torch import nn

from gfx.frontend.forward_hooks import functions_of, outside_containers

__all__ = ["asks_for_mode", "kept_values", "newly_kept"]

_CONTAINERS = (list, dict, set, tuple)
_OWN = frozenset(vars(nn.Module()))  # tensors, submodules, hooks
_MODES = frozenset(("training", "train", "eval"))

Kept = dict[str, list[Any]]


def kept_values(model: nn.Module) -> Kept:
    """Lists what the modules of a model hold in attributes, and what containers outside hold."""
    found: Kept = {}
    for path, part in model.named_modules():
        if type(part).__module__.startswith("torch.nn.modules"):
            continue
        for name, value in vars(part).items():
            if name not in _OWN:
                found[f"{path}.{name}".lstrip(".")] = _content(value)
    for i, held in enumerate(outside_containers(model)):
        found[f"a container outside of the model ({i})"] = _content(held)
    return found


def newly_kept(model: nn.Module, before: Kept) -> set[str]:
    """Names what holds other objects than before.

    Example:
        >>> class Net(nn.Module): ...
        >>> net = Net()
        >>> before = kept_values(net)
        >>> net.last = 3
        >>> newly_kept(net, before)
        {'last'}
    """
    after = kept_values(model)
    return {name for name in after if not _same(after[name], before.get(name))}


def asks_for_mode(model: nn.Module) -> bool:
    """Whether code of a model, other than torch's, reads or sets the mode of a module."""
    codes = (f.__code__ for f in functions_of(model) if isinstance(f, types.FunctionType))
    return any(_MODES.intersection(code.co_names) for code in codes)


def _content(value: Any) -> list[Any]:
    if not isinstance(value, _CONTAINERS):
        return [value]
    return [value, *(value.values() if isinstance(value, dict) else value)]


def _same(now: list[Any], before: list[Any] | None) -> bool:
    if before is None or len(now) != len(before):
        return False
    return all(a is b for a, b in zip(now, before, strict=True))
