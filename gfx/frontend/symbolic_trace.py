"""Traces a model by torch.fx symbolic trace, with torch.nn layers as leaves (the first front end).

It keeps names, structure and train/eval behaviour. Stricter than plain torch.fx where that would
give a wrong graph:

1. Writing an attribute of a traced value is refused: the graph would forget it. Only
   `parameter.data = value` is followed, where the old content is never read: what reads the
   parameter afterwards reads the value, a layer through its forward.
2. Random numbers drawn while tracing are refused: the graph would repeat one draw.
3. A buffer changed while tracing is refused: the graph would not change it again.
4. A constant computed from parameters while tracing is refused: it would not follow them.
5. Forward hooks of layers run on traced values (gfx/frontend/forward_hooks.py), and context
   managers are kept or refused (gfx/frontend/regions.py).
"""

import contextlib
import dis
import inspect
import math
import operator
from collections.abc import Collection, Iterator
from functools import cache
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.fx._symbolic_trace import _create_wrapped_func

from gfx.frontend.forward_hooks import hook_names, run_hooks
from gfx.frontend.inputs.bind import Argument, Arguments, has_tensor
from gfx.frontend.leaf_ops import is_leaf
from gfx.frontend.private_copy import untouched
from gfx.frontend.refusal import Refusal, blamed_module, first_line
from gfx.frontend.regions import mark, refused_contexts
from gfx.frontend.transformer_forwards import plain_forwards
from gfx.ir.random_state import ONE_DRAW, drawn_in_python, drawn_in_torch

__all__ = ["partial_graph", "symbolic_graph", "unpack"]


def symbolic_graph(
    model: nn.Module, arguments: Arguments, opaque: Collection[str]
) -> tuple[fx.Graph, list[str]]:
    """Traces a model and returns its graph with notes for the user.

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
    tracer = _Tracer(arguments, (), live_buffers=True)
    with (
        untouched(model),
        _math_wrapped(),
        plain_forwards(model),
        # the graph up to the failure is the result
        contextlib.suppress(Exception),
    ):
        tracer.trace(model)
    return tracer.graph


def unpack(proxy: Any, value: Any) -> Any:
    """Takes an input apart as the example does: containers real, tensors as items of the proxy."""
    if isinstance(value, torch.Tensor):
        return proxy
    if not has_tensor(value):
        return value
    if isinstance(value, dict):
        return {k: unpack(proxy[k] if has_tensor(v) else None, v) for k, v in value.items()}
    items = [unpack(proxy[i] if has_tensor(v) else None, v) for i, v in enumerate(value)]
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def _attempt(
    model: nn.Module, arguments: Arguments, opaque: Collection[str], *, live_buffers: bool
) -> tuple[fx.Graph, list[str]]:
    tracer = _Tracer(arguments, opaque, live_buffers)
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
    return graph, [ONE_DRAW] if drawn_in_forward[0] else []


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


class _Proxy(fx.Proxy):
    """A traced value that records item assignment and refuses attribute assignment (rule 1)."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("tracer", "node"):
            raise TypeError(f"forward assigns the attribute {name} of a tensor")
        super().__setattr__(name, value)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})


class _Held(_Proxy):
    """A parameter or buffer; its shape is known, so that control flow may ask for it."""

    held: torch.Tensor
    tracer: "_Tracer"

    def __init__(self, tracer: fx.Tracer, node: fx.Node, tensor: torch.Tensor) -> None:
        super().__init__(node, tracer)
        object.__setattr__(self, "held", tensor)  # not `self.held =`: rule 1

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "data" and isinstance(value, _Proxy):
            return self.tracer.overwrite(self, value)
        super().__setattr__(name, value)

    @property
    def shape(self) -> torch.Size:
        return self.held.shape

    @property
    def ndim(self) -> int:
        return self.held.ndim

    def size(self, dim: int | None = None) -> Any:
        return self.held.shape if dim is None else self.held.shape[dim]

    def dim(self) -> int:
        return self.held.dim()

    def numel(self) -> int:
        return self.held.numel()


class _Tracer(fx.Tracer):
    """Traces with given values for the arguments that are no tensors."""

    def __init__(self, arguments: Arguments, opaque: Collection[str], live_buffers: bool) -> None:
        super().__init__()
        self._autowrap_search.clear()  # see _math_wrapped
        self.arguments = arguments
        self.opaque = opaque
        self.live_buffers = live_buffers
        self.paths: dict[int, str] = {}
        self.overwritten: dict[str, _Proxy] = {}  # by path: what stands there now (rule 1)
        self.hooked: dict[str, bool] = {}  # by path of a layer: whether its hooks ran (rule 5)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if module_qualified_name in self.opaque:
            return True
        read = bool(self.overwritten) and self.overwritten.keys() & _own(module_qualified_name, m)
        return is_leaf(m) and not read

    def overwrite(self, parameter: _Held, value: _Proxy) -> None:
        """Makes later reads of a parameter return what was written to it (rule 1)."""
        path = str(parameter.node.target)
        read = bool(parameter.node.users) or any(
            node.op == "call_module" and path.startswith(f"{node.target}.")
            for node in self.graph.nodes
        )
        if read:
            raise TypeError(f"forward overwrites {path} after it was read")
        self.overwritten[path] = value

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        self.paths = {id(p): path for path, p in self.root.named_parameters()}
        if self.live_buffers:
            self.paths |= {id(b): path for path, b in self.root.named_buffers()}
        values = [self._value(item) for item in self.arguments.items]
        root = self.root
        hooked = root._forward_hooks or root._forward_pre_hooks
        function = root.__call__ if hooked else root.forward  # may be set on the instance
        # a lambda: an annotated function would put its annotation into the generated code
        return lambda *given: self.arguments.call(function, given), values

    def _value(self, item: Argument) -> Any:
        if not item.is_input:
            return item.value
        return unpack(self.create_proxy("placeholder", item.name, (), {}), item.value)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        path = self.paths.get(id(attr_val)) if isinstance(attr_val, torch.Tensor) else None
        if path is None:
            return attr_val
        if path in self.overwritten:
            return self.overwritten[path]
        if path not in parameter_proxy_cache:
            node = self.create_node("get_attr", path, (), {})
            parameter_proxy_cache[path] = _Held(self, node, attr_val)
        return parameter_proxy_cache[path]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if m is self.root or m not in (self.submodule_paths or {}):
            # the second kind is made inside forward: there is nothing to refer to
            return forward(*args, **kwargs)
        result = super().call_module(m, forward, args, kwargs)
        path = self.path_of_module(m)
        if not m._forward_hooks or not self.is_leaf_module(m, path):
            return result
        result, ran = run_hooks(m, result, args, kwargs)
        if self.hooked.setdefault(path, ran) is not ran:
            raise TypeError(f"a forward hook of {path} runs at one call and not at another")
        return result

    def stubborn(self) -> list[str]:
        """Says which hooks do not run on traced values."""
        return [
            f"the forward hook {' and '.join(hook_names(self.root.get_submodule(path)))} of {path} "
            "does not run on traced values, so what it keeps is unknown"
            for path, ran in self.hooked.items()
            if not ran
        ]

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        return mark(super().create_node(*args, **kwargs))

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, np.generic):
            return a.item()  # its repr would not run in the generated code
        return super().create_arg(a)

    def to_bool(self, obj: fx.Proxy) -> bool:
        frame = inspect.currentframe()
        caller = frame.f_back.f_back if frame and frame.f_back else None
        if caller is not None and _is_assertion(caller):
            return True  # asserts hold on the example inputs; a graph does not carry them
        return super().to_bool(obj)


def _own(path: str, module: nn.Module) -> set[str]:
    return {f"{path}.{name}" for name, _ in module.named_parameters()}


def _is_assertion(frame: FrameType) -> bool:
    """Whether the truth value that a frame asks for decides an `assert`."""
    code = [i for i in dis.get_instructions(frame.f_code) if i.opname != "CACHE"]
    after = [i for i in code if i.offset >= frame.f_lasti]
    jump = next((n for n, i in enumerate(after[:3]) if "JUMP" in i.opname), None)
    if jump is None:
        return False
    targets = [i for i in code if i.offset == after[jump].argval]
    falls = after[jump + 1 : jump + 3] if "IF_TRUE" in after[jump].opname else targets
    return any("AssertionError" in i.argrepr or "ASSERTION_ERROR" in i.opname for i in falls)
