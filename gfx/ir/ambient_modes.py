"""Runs code in torch's own modes, whatever modes its caller is in, and gives the caller's back.

1. Inference mode, no_grad, autocast, anomaly mode and deterministic algorithms are off: what is
   built inside has gradients, and is compared in the precision that it has.
2. The default device is the CPU, the default dtype float32. A model whose parameters all have the
   caller's default dtype keeps it: its forward may make tensors without saying of which.
3. Modes that intercept every function (`torch.device(...)` as a context) are taken off, and put
   back in their order.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn, overrides

from gfx.ir.program import Program

__all__ = ["in_neutral_modes", "neutral_modes"]

P = ParamSpec("P")
T = TypeVar("T")


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

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with neutral_modes(*args, *kwargs.values()):
            return function(*args, **kwargs)

    return call


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
        for device in ("cpu", "cuda"):
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
        model = value.module if isinstance(value, Program) else value
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
