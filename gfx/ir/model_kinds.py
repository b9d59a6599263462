"""Says what a thing handed in as a model is, and what to do where it is none.

Asked before anything else touches the thing: what is no torch.nn.Module has no parameters, and a
TorchScript module has no forward that Python can follow.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from gfx.errors import InputError

__all__ = ["require_module"]

# layers of torch's own quantization; those of torch.ao.nn.qat still hold floats
_PACKED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.ao.nn.sparse")


def require_module(model: Any, name: str = "the model") -> nn.Module:
    """Returns a model that gfx can look into.

    Raises: InputError saying what it is instead, and what to pass.

    Example:
        >>> require_module(nn.ReLU)
        Traceback (most recent call last):
            ...
        gfx.errors.InputError: the model is the class ReLU, not a module; make one: ReLU(...)
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            f"{name} is a TorchScript module (of torch.jit.trace, script or load), which has no "
            "Python code left to follow; pass the module that it was made from"
        )
    if isinstance(model, nn.Module):
        for path, part in _parts(model):
            if isinstance(part, nn.Module) and "_modules" not in vars(part):
                raise InputError(
                    f"{path} of {name} never called super().__init__(); call it first in its "
                    "__init__"
                )
            if type(part).__module__.startswith(_PACKED):
                raise InputError(
                    f"{path} of {name} is a quantized {type(part).__name__}, whose weights are "
                    "packed integers; pass the model of floats that it was made from"
                )
        return model
    raise InputError(f"{name} is {_what(model)}")


def _parts(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yields a module and what is below it, also where a part was never initialised."""
    todo: list[tuple[str, Any]] = [(type(model).__name__, model)]
    seen: set[int] = set()
    while todo:
        path, part = todo.pop()
        if id(part) in seen or part is None or isinstance(part, torch.jit.ScriptModule):
            continue
        seen.add(id(part))
        yield path, part
        todo += [(f"{path}.{n}", child) for n, child in vars(part).get("_modules", {}).items()]


def _what(model: Any) -> str:
    """Says what is no module, and what to do."""
    kind = type(model).__name__
    if model is None:
        return "None; pass a torch.nn.Module"
    if isinstance(model, type):
        return f"the class {model.__name__}, not a module; make one: {model.__name__}(...)"
    if isinstance(model, str | os.PathLike):
        return f"the path {os.fspath(model)!r}; open it first, with gfx.open_model"
    if isinstance(model, Mapping):
        return _mapping(model)
    if isinstance(model, torch.export.ExportedProgram):
        return "an ExportedProgram of torch.export; pass its .module(), or what was exported"
    if isinstance(model, torch.jit.ScriptFunction):
        return "a TorchScript function; pass the torch.nn.Module that it was made from"
    if isinstance(model, torch.optim.Optimizer):
        return f"an optimizer ({kind}); pass the torch.nn.Module that it trains"
    if isinstance(model, torch.Tensor):
        return (
            f"a tensor of shape {list(model.shape)}; pass a torch.nn.Module first, then its inputs"
        )
    if isinstance(model, torch.fx.Graph):
        return "a torch.fx Graph; pass torch.fx.GraphModule(module, graph)"
    if isinstance(getattr(model, "module", None), nn.Module):
        return f"a {kind}; pass its .module, which is the torch.nn.Module"
    if isinstance(model, list | tuple):
        return f"a {kind} of {len(model)}; pass one torch.nn.Module, such as nn.Sequential(*layers)"
    if callable(model):
        called = getattr(model, "__name__", kind)
        return f"the function {called}, not a module; call it in the forward of a torch.nn.Module"
    return f"a {kind}, not a torch.nn.Module; build it first and pass the module itself"


def _mapping(model: Mapping[Any, Any]) -> str:
    """Describes a dictionary: of weights, of a checkpoint, or of anything else."""
    if model and all(isinstance(value, torch.Tensor) for value in model.values()):
        return (
            f"a state dict ({len(model)} tensors, the first is {next(iter(model))}); build its "
            "module, call load_state_dict with it, and pass the module"
        )
    inside = [str(key) for key, value in model.items() if isinstance(value, nn.Module | Mapping)]
    found = f" under {', '.join(inside[:4])}" if inside else ""
    return f"a {type(model).__name__}, not a torch.nn.Module; pass the module{found or ' itself'}"
