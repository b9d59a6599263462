"""Traces a model by torch.fx symbolic trace, with torch.nn layers as leaves (the first front end).

It keeps names, structure and train/eval behaviour. Stricter than plain torch.fx where that would
give a wrong graph:

1. Writing an attribute of a traced value is refused: the graph would forget it. Only
   `parameter.data = value` is followed, where the old content is never read: what reads the
   parameter afterwards reads the value, a layer through its forward.
2. Random numbers drawn while tracing are refused: the graph would repeat one draw.
3. A buffer changed while tracing is refused: the graph would not change it again.
4. A constant computed from parameters while tracing is refused: it would not follow them.
5. What forward asserts of sizes, and how many pieces it unpacks, become rules
   (gfx/frontend/asserted_sizes.py).
6. Forward hooks of layers run on traced values (gfx/frontend/forward_hooks.py), and context
   managers are kept or refused (gfx/frontend/regions.py).
"""

import contextlib
import math
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

import torch
from torch import fx, nn
from torch.fx._symbolic_trace import _create_wrapped_func

from gfx.frontend.asserted_sizes import asserted_rules
from gfx.frontend.inputs.bind import Arguments
from gfx.frontend.private_copy import untouched
from gfx.frontend.refusal import Refusal, blamed_module, first_line
from gfx.frontend.regions import refused_contexts
from gfx.frontend.symbolic_tracer import GivenTracer
from gfx.frontend.transformer_forwards import plain_forwards
from gfx.ir.random_state import ONE_DRAW, drawn_in_python, drawn_in_torch
from gfx.objects.call_form import set_call_form

__all__ = ["partial_graph", "symbolic_graph"]


def symbolic_graph(
    model: nn.Module, arguments: Arguments, opaque: Collection[str]
) -> tuple[fx.Graph, list[str], tuple[str, ...]]:
    """Traces a model and returns its graph, notes for the user, and rules of its sizes.

    Modules at the paths in `opaque` stay whole.
    The model gains the constants that the graph refers to, and is else left unchanged.

    Raises: Refusal if it cannot be traced this way.
    """
    try:
        return _attempt(model, arguments, opaque, live_buffers=True)
    except Refusal as refusal:
        if next(model.buffers(), None) is None:
            raise
        first = refusal
    try:  # `if self.initialised:` on a buffer is fine where nothing changes the buffer
        return _attempt(model, arguments, opaque, live_buffers=False)
    except Refusal:
        raise first from None


def partial_graph(model: nn.Module, arguments: Arguments) -> fx.Graph:
    """Traces as far as it goes; for a look at what consumes the inputs."""
    tracer = GivenTracer(arguments, (), live_buffers=True)
    with (
        untouched(model),
        _math_wrapped(),
        plain_forwards(model),
        # the graph up to the failure is the result
        contextlib.suppress(Exception),
    ):
        tracer.trace(model)
    return tracer.graph


def _attempt(
    model: nn.Module, arguments: Arguments, opaque: Collection[str], *, live_buffers: bool
) -> tuple[fx.Graph, list[str], tuple[str, ...]]:
    tracer = GivenTracer(arguments, opaque, live_buffers)
    state, known = _buffers(model), set(vars(model))
    with (
        untouched(model),
        _math_wrapped(),
        plain_forwards(model),
        _gradients(model),
        drawn_in_torch() as drawn,
        drawn_in_python() as drawn_in_forward,
        refused_contexts(),
    ):
        try:
            graph = tracer.trace(model)
        except Refusal as refusal:
            raise Refusal(refusal.reason, blamed_module(refusal, model)) from refusal
        except Exception as error:  # user code meets proxies: anything may be raised
            why = "; ".join([first_line(error), *tracer.stubborn()])
            raise Refusal(why, blamed_module(error, model)) from error
        made = {name: value for name, value in vars(model).items() if name not in known}
        changed = state != _buffers(model)
    if drawn[0]:
        raise Refusal("forward draws random numbers of a fixed shape")  # rule 2
    if changed:
        raise Refusal("forward changes a buffer")  # rule 3
    if any(v.requires_grad for v in made.values() if isinstance(v, torch.Tensor)):
        raise Refusal("forward computes with parameters that it lists, not names")  # rule 4
    vars(model).update({n: v for n, v in made.items() if isinstance(v, torch.Tensor)})
    rules = asserted_rules(model, graph, arguments, tracer.taken)
    set_call_form(graph, arguments.forms(), arguments.returned.form)
    return graph, [ONE_DRAW] if drawn_in_forward[0] else [], rules


@contextlib.contextmanager
def _math_wrapped() -> Iterator[None]:
    """Lets `math.sqrt` and the like take traced values, as torch.fx does itself, only slower."""
    plain = {name: vars(math)[name] for name in _wrapped_math()}
    vars(math).update(_wrapped_math())
    try:
        yield
    finally:
        vars(math).update(plain)


@cache
def _wrapped_math() -> dict[str, Any]:
    return {
        name: _create_wrapped_func(function)
        for name, function in vars(math).items()
        if not name.startswith("_") and callable(function)
    }


@contextlib.contextmanager
def _gradients(model: nn.Module) -> Iterator[None]:
    """Makes every parameter require a gradient, which marks what is computed from it."""
    frozen = [p for p in model.parameters() if p.is_floating_point() and not p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _buffers(model: nn.Module) -> list[tuple[int, int]]:
    return [(id(buffer), buffer._version) for buffer in model.buffers()]
