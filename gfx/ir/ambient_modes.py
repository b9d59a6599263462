"""Runs code in torch's own modes, whatever modes its caller is in, and gives the caller's back.

1. Inference mode, no_grad, autocast, anomaly mode and deterministic algorithms are off: what is
   built inside has gradients, and is compared in the precision that it has.
2. The default device is the CPU, the default dtype float32. A model whose parameters all have the
   caller's default dtype keeps it: its forward may make tensors without saying of which.
3. Modes that intercept every function (`torch.device(...)` as a context) are taken off, and put
   back in their order.
4. What is handed out is shielded as well: a class decorated with `shielded` runs its methods so.
   Losses, adapters and layers are not: they are part of the caller's own forward.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property, wraps
from inspect import isfunction, isgeneratorfunction
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn, overrides

__all__ = ["in_neutral_modes", "neutral_modes", "shielded"]

P = ParamSpec("P")
T = TypeVar("T")
Kind = TypeVar("Kind", bound=type)

# what Python itself calls on an object, and what may compute
_SPECIAL = ("__init__", "__call__", "__getitem__", "__iter__", "__len__", "__repr__", "__str__")


def in_neutral_modes(function: Callable[P, T]) -> Callable[P, T]:
    """Makes a function run in torch's own modes.

    Example:
        >>> @in_neutral_modes
        ... def weight():
        ...     return torch.zeros(2, requires_grad=True) * 2
        >>> with torch.inference_mode():
        ...     weight().requires_grad
        True
    """
    if isgeneratorfunction(function):
        return _in_steps(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if _are_neutral():
            return function(*args, **kwargs)
        with neutral_modes(*args, *kwargs.values()):
            return function(*args, **kwargs)

    return call


def shielded(kind: Kind) -> Kind:
    """Makes the public methods and properties of a class run in torch's own modes (rule 4).

    Example:
        >>> @shielded
        ... class Net:
        ...     def weight(self):
        ...         return torch.zeros(2)
        >>> with torch.device("meta"):
        ...     Net().weight().device
        device(type='cpu')
    """
    for name, member in list(vars(kind).items()):
        if name.startswith("_") and name not in _SPECIAL:
            continue
        found: Any = member
        if isfunction(member):
            found = in_neutral_modes(member)
        elif isinstance(member, classmethod | staticmethod):
            found = type(member)(in_neutral_modes(member.__func__))
        elif isinstance(member, property):
            read = None if member.fget is None else in_neutral_modes(member.fget)
            found = property(read, member.fset, member.fdel, member.__doc__)
        elif isinstance(member, cached_property):
            found = cached_property(in_neutral_modes(member.func))
            found.__set_name__(kind, name)
        if found is not member:
            setattr(kind, name, found)
    return kind


def _in_steps(function: Callable[P, Any]) -> Callable[P, Any]:
    """Makes each step of a generator run in torch's own modes; its reader keeps the caller's."""

    @wraps(function)
    def steps(*args: P.args, **kwargs: P.kwargs) -> Any:
        running = function(*args, **kwargs)
        while True:
            with neutral_modes(*args, *kwargs.values()):
                try:
                    item = next(running)
                except StopIteration:
                    return
            yield item

    return steps


def _are_neutral() -> bool:
    """Whether the caller is in no mode at all, which takes no time to find."""
    stack: Any = overrides
    return (
        torch.is_grad_enabled()
        and not torch.is_inference_mode_enabled()
        and not torch.is_anomaly_enabled()
        and not any(map(torch.is_autocast_enabled, _DEVICES))
        and torch.get_default_dtype() is torch.float32
        and not torch.are_deterministic_algorithms_enabled()
        and getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None) is None
        and not stack._len_torch_function_stack()
    )


_DEVICES = ("cpu", "cuda")


@contextmanager
def neutral_modes(*given: Any) -> Iterator[None]:
    """Takes the caller's modes off, and puts them back on leaving.

    The models among what is given are for rule 2.

    Example:
        >>> with torch.no_grad(), neutral_modes():
        ...     torch.is_grad_enabled()
        True
    """
    with ExitStack() as stack:
        stack.enter_context(_no_function_modes())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.is_anomaly_enabled():
            stack.enter_context(torch.autograd.set_detect_anomaly(False))
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(_default_dtype(given))
        stack.enter_context(_any_algorithm())
        yield


@contextmanager
def _no_function_modes() -> Iterator[None]:
    """Applies rule 3."""
    from torch.utils import _device

    held: Any = _device
    glob: Any = torch._GLOBAL_DEVICE_CONTEXT
    stack: Any = overrides
    modes = [stack._pop_mode() for _ in stack._get_current_function_mode_stack()]
    current, chosen = held.CURRENT_DEVICE, getattr(glob, "device_context", None)
    held.CURRENT_DEVICE = glob.device_context = None
    try:
        yield
    finally:
        held.CURRENT_DEVICE, glob.device_context = current, chosen
        for mode in reversed(modes):
            stack._push_mode(mode)


@contextmanager
def _default_dtype(given: Iterable[Any]) -> Iterator[None]:
    """Applies rule 2."""
    before = torch.get_default_dtype()
    if before is torch.float32 or _dtypes(given) == {before}:
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _dtypes(given: Iterable[Any]) -> set[torch.dtype]:
    """Lists the dtypes of the parameters of the models among what is given."""
    found: set[torch.dtype] = set()
    for value in given:
        model = value if isinstance(value, nn.Module) else getattr(value, "module", value)
        try:
            parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
        except Exception:  # not made right: who looks at it next says so
            continue
        found |= {p.dtype for p in parameters if p.is_floating_point()}
    return found


@contextmanager
def _any_algorithm() -> Iterator[None]:
    """Allows algorithms that are not deterministic: some operations have no others."""
    asked = torch.are_deterministic_algorithms_enabled()
    only_warn = torch.is_deterministic_algorithms_warn_only_enabled()
    if not asked:
        yield
        return
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(asked, warn_only=only_warn)
