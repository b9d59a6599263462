"""Lets an optimizer update only the parts of tensors that subnets used.

Before   a step moves all of a tensor: momentum and weight decay move what no subnet used
After    a step sees the used part alone, with the part of its state
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gfx.compression.taps.elastic_adapters import ELASTIC
from gfx.errors import InputError
from gfx.train.supernet.kept_intervals import TensorPart

__all__ = ["keep_unused", "keep_unused_columns"]


@dataclass
class _Held:
    """What a parameter is as a whole, while an optimizer sees a part of it."""

    parameter: nn.Parameter
    part: TensorPart
    whole: Tensor
    gradient: Tensor
    state: dict[str, Tensor]
    views: dict[str, Tensor]  # of the wholes that are seen, by their names; "" is the parameter


def keep_unused(
    optimizer: torch.optim.Optimizer,
    used: Callable[[], dict[int, TensorPart]],
    stepped: Callable[[], None],
) -> None:
    """Registers hooks at an optimizer, so that it steps on parts.

    Args:
        optimizer: any that treats each element alone, as SGD, Adam and AdamW do.
        used: by identity of a parameter, the part that subnets used since the last step; what is
            not named was used whole.
        stepped: called after every step.

    Raises: InputError, at a step, if it is given a closure, which would run the net on parts.
    """
    held: list[_Held] = []
    unused: list[tuple[nn.Parameter, Tensor]] = []

    def before(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if any(map(callable, (*args[1:], *kwargs.values()))):
            raise InputError(
                f"{type(optimizer).__name__} runs the net inside of its step, which cannot be kept "
                "to parts of a supernet; take an optimizer that needs no closure"
            )
        parts = used()
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            part = parts.get(id(parameter))
            if part is None or parameter.grad is None:
                continue
            if part.none:  # an optimizer passes over what has no gradient
                unused.append((parameter, parameter.grad))
                parameter.grad = None
            else:
                held.append(_cut(optimizer, parameter, part))

    def after(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        while held:
            _put_back(optimizer, held.pop())
        while unused:
            parameter, gradient = unused.pop()
            parameter.grad = gradient
        stepped()

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)


def keep_unused_columns(adapters: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Lets an optimizer update only the columns of elastic adapters that a step used."""
    kinds = tuple(ELASTIC.values())
    layers: list[Any] = [m for m in adapters.modules() if isinstance(m, kinds)]

    def used() -> dict[int, TensorPart]:
        return {
            id(m.weight): TensorPart(((), ((0, m.used),), *[()] * (m.weight.ndim - 2)))
            for m in layers
            if 0 < m.used < m.weight.shape[1]
        }

    def stepped() -> None:
        for layer in layers:
            layer.used = 0

    if layers:
        keep_unused(optimizer, used, stepped)


def _cut(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, part: TensorPart) -> _Held:
    state = optimizer.state.get(parameter, {})
    shaped = {
        name: value
        for name, value in state.items()
        if isinstance(value, Tensor) and value.ndim and value.shape == parameter.shape
    }
    assert parameter.grad is not None
    held = _Held(parameter, part, parameter.data, parameter.grad, shaped, {})
    parameter.grad = None
    parameter.data = _seen(held, "", held.whole)
    parameter.grad = part.of(held.gradient).contiguous()
    for name, value in shaped.items():
        state[name] = _seen(held, name, value)
    return held


def _seen(held: _Held, name: str, whole: Tensor) -> Tensor:
    """Returns the part of a whole: the very memory where it lies in one piece, else a copy."""
    view = held.part.of(whole)
    if held.part.is_view and view.is_contiguous():
        held.views[name] = view
        return view
    return view.contiguous() if held.part.is_view else view


def _put_back(optimizer: torch.optim.Optimizer, held: _Held) -> None:
    parameter, part = held.parameter, held.part
    now = parameter.data
    if "" not in held.views:
        part.write(held.whole, now)
    state = optimizer.state.get(parameter, {})
    for name, value in state.items():
        if not isinstance(value, Tensor) or not value.ndim or value.shape != now.shape:
            continue
        whole = held.state.get(name)
        if whole is None:  # of the first step
            whole = torch.zeros_like(held.whole, dtype=value.dtype)
        if held.views.get(name) is not value:
            part.write(whole, value)
        state[name] = whole
    parameter.grad = None
    parameter.data = held.whole
    parameter.grad = held.gradient
