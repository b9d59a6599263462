"""Copies the user's model, and restores what a forward changes on the copy.

The front end never runs or traces the model it is given, only a copy. Even the copy is put back
after each run: some models write to themselves in forward, and under symbolic trace such a write
would leave a proxy behind.
"""

import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn

from gfx.errors import InputError
from gfx.frontend.forward_hooks import outside_containers, rebind
from gfx.ir.copy_on_write import clone_on_write
from gfx.ir.deepcopy import deepcopy, held_tensors
from gfx.ir.model_kinds import require_module
from gfx.ir.modules import OWN, is_own
from gfx.ir.random_state import keep_random_state

__all__ = ["modes", "private_copy", "untouched", "unwrap"]

# what a subclass may define without changing how its torch.nn base computes
_HARMLESS = frozenset(["reset_parameters", "init_weights", "extra_repr"])
_HOOKS = frozenset(["__call__", "__getattr__", "__setattr__"])
_LARGE = 100_000  # elements of a tensor that is too large to copy before each run


def private_copy(model: nn.Module) -> nn.Module:
    """Copies a model for tracing, on write inside the pipeline; the model is left unchanged.

    1. Wrappers (DataParallel, DistributedDataParallel, torch.compile) are taken off.
    2. Subclasses of torch.nn layers that add nothing but a constructor become the plain layers.
    3. A graph keeps the name of the model that it was made from.
    4. Hooks, and functions set on a module, speak of the copy where they spoke of the model.

    Raises: InputError if it is no module, cannot be copied, or has uninitialised parameters.

    Example:
        >>> private_copy(nn.DataParallel(nn.Sequential(nn.Conv2d(3, 8, 3))))
        Sequential(
          (0): Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
        )
    """
    require_module(model)
    _require_initialised(model)
    inner = unwrap(model)
    twin = _deepcopy(inner)
    if isinstance(twin, fx.GraphModule) and type(twin) is not type(inner):
        # each has a class of its own, and torch does not copy its name
        type(twin).__name__ = type(inner).__name__
    for module in list(twin.modules()):
        for name, child in list(module._modules.items()):
            if child is not None:
                module._modules[name] = unwrap(child)
    for module in twin.modules():
        plain = _plain_class(type(module))
        if plain is not type(module):
            module.__class__ = plain
    return twin


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Puts back, on leaving, whatever changed on a model: attributes, buffers, modes, random state.

    So do containers outside of it that its hooks and methods may write to.

    Parameters and other large tensors that a forward overwrites in place are not put back:
    copying them all takes too long.
    """
    undo = [_saved_class(kind) for kind in _user_classes(model)]
    undo += [_saved_module(module) for module in model.modules()]
    undo += [_saved_container(held) for held in outside_containers(model)]
    with keep_random_state({p.device for p in model.parameters()}, python=True):
        try:
            yield
        finally:
            for restore in undo:
                restore()


def _require_initialised(model: nn.Module) -> None:
    try:
        parameters = list(model.named_parameters())
    except Exception as error:  # of a module whose parts are not there
        raise InputError(
            f"{type(model).__name__} is no whole module ({type(error).__name__}: {error}); is "
            "super().__init__() called in each of its modules, or the file damaged?"
        ) from error
    for path, parameter in parameters:
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise InputError(
                f"parameter {path} is not initialised yet (a lazy module); "
                "run the model once before you pass it"
            )


def _deepcopy(model: nn.Module) -> nn.Module:
    try:
        with warnings.catch_warnings():
            # torch copies the modules of its own torch.export in a way it calls deprecated
            warnings.simplefilter("ignore", FutureWarning)
            copies: dict[int, Any] = {}
            twin = deepcopy(model, copies, clone=clone_on_write)
    except Exception as error:
        raise InputError(
            f"{type(model).__name__} cannot be copied ({type(error).__name__}: {error}); "
            "remove the attribute that refuses copy.deepcopy"
        ) from error
    rebind(twin, copies)
    return twin


def unwrap(module: nn.Module) -> nn.Module:
    """Returns the module inside of torch.compile and parallel wrappers."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif type(module).__module__.startswith("torch._dynamo") and hasattr(module, "_orig_mod"):
            module = module.get_submodule("_orig_mod")
        else:
            return module


def modes(model: nn.Module) -> dict[str, bool]:
    """Returns the train/eval flag of every module by path, as they are inside of wrappers.

    A wrapper's own flag says nothing: nn.DataParallel of a model in eval mode is born in training
    mode, and runs the model in eval mode.

    Example:
        >>> modes(nn.DataParallel(nn.Sequential(nn.ReLU()).eval()))
        {'': False, '0': False}
    """
    found: dict[str, bool] = {}

    def walk(module: nn.Module, path: str) -> None:
        module = unwrap(module)
        found[path] = module.training
        for name, child in module._modules.items():
            if child is not None:
                walk(child, f"{path}.{name}" if path else name)

    walk(model, "")
    return found


def _plain_class(kind: type[nn.Module]) -> type[nn.Module]:
    """Finds the torch.nn class that computes what this class computes (rule 2)."""
    for base in kind.__mro__:
        if base in OWN:
            return base
        if base.__module__.startswith("torch."):
            return base if base.__module__.startswith("torch.nn.modules") else kind
        own = set(vars(base))
        plain = {name for name in own if not name.startswith("__")} - _HARMLESS
        overrides = plain & set(dir(base.__mro__[1])) or own & _HOOKS
        called = {name for name in plain if not name.startswith("_")}  # perhaps from outside
        if overrides or called or len(base.__bases__) != 1:
            return kind
    return kind


def _saved_module(module: nn.Module) -> Callable[[], None]:
    attributes = dict(vars(module))
    plain = type(module).__module__.startswith("torch.nn.modules") or is_own(module)
    # of such a layer only the tensors change; most of its containers are of hooks
    kept = {n: attributes[n] for n in ("_parameters", "_buffers")} if plain else attributes
    containers = [_saved_container(v) for v in kept.values() if _is_container(v)]
    tensors = [_saved_tensor(value) for value in held_tensors(module)]

    def restore() -> None:
        vars(module).clear()
        vars(module).update(attributes)
        for undo in containers + tensors:
            undo()

    return restore


def _saved_container(value: Any) -> Callable[[], None]:
    # the methods of the built-in kinds: a subclass may forbid what they do (a frozen dictionary)
    kinds = (OrderedDict, dict, list, set, deque)
    kind: Any = next(k for k in kinds if isinstance(value, k))
    saved: Any = (dict if issubclass(kind, dict) else kind).copy(value)

    def restore() -> None:
        kind.clear(value)
        if kind is list or kind is deque:
            kind.extend(value, saved)
        elif kind is set:
            set.update(value, saved)
        else:
            for key, item in saved.items():
                kind.__setitem__(value, key, item)

    return restore


def _saved_tensor(tensor: torch.Tensor) -> Callable[[], None]:
    storage = tensor.data  # catches `p.data = ...`
    if isinstance(tensor, nn.Parameter) or tensor.is_inference() or tensor.numel() > _LARGE:

        def restore() -> None:
            tensor.data = storage

        return restore
    values, version = storage.clone(), tensor._version

    def restore_values() -> None:
        tensor.data = storage
        # torch counts no version where a BatchNorm moves its running statistics
        known = storage.layout == torch.strided and not storage.is_meta
        moved = known and not torch.equal(storage, values)
        if tensor._version != version or moved:
            storage.copy_(values)

    return restore_values


def _saved_class(kind: type) -> Callable[[], None]:
    """Saves class attributes: some models keep their growth state there."""
    saved = dict(vars(kind))
    containers = [_saved_container(value) for value in saved.values() if _is_container(value)]

    def restore() -> None:
        for name, value in dict(vars(kind)).items():
            if name not in saved:
                delattr(kind, name)
            elif value is not saved[name]:
                setattr(kind, name, saved[name])
        for undo in containers:
            undo()

    return restore


def _user_classes(model: nn.Module) -> list[type]:
    kinds = {base for module in model.modules() for base in type(module).__mro__}
    known = OWN | {object}
    return [k for k in kinds if not k.__module__.startswith("torch.") and k not in known]


def _is_container(value: Any) -> bool:
    return isinstance(value, (list, dict, set, deque))
