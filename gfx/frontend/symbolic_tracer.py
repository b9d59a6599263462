"""Follows a forward with given values for the arguments that are no tensors.

What a parameter holds from now on, where `parameter.data = value` was assigned, is noted; a layer
with such parameters is looked into. Forward hooks of layers run on traced values
(gfx/frontend/forward_hooks.py), and regions of context managers are marked.
"""

import inspect
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from gfx.frontend.asserted_sizes import Taken
from gfx.frontend.forward_hooks import hook_names, run_hooks
from gfx.frontend.inputs.bind import Argument, Arguments
from gfx.frontend.leaf_ops import is_leaf
from gfx.frontend.regions import mark
from gfx.frontend.traced_values import TracedTensor, TracedValue, is_assertion, unpack
from gfx.objects.object_form import put_together
from gfx.objects.take_apart import take_apart

__all__ = ["GivenTracer"]


class GivenTracer(fx.Tracer):
    """Traces with given values for the arguments that are no tensors."""

    def __init__(self, arguments: Arguments, opaque: Collection[str], live_buffers: bool) -> None:
        super().__init__()
        self._autowrap_search.clear()  # math is wrapped as a whole: see symbolic_trace
        self.arguments = arguments
        self.opaque = opaque
        self.live_buffers = live_buffers
        self.paths: dict[int, str] = {}
        self.overwritten: dict[str, TracedValue] = {}  # by path: what stands there now
        self.hooked: dict[str, bool] = {}  # by path of a layer: whether its hooks ran
        self.taken: list[Taken] = []  # what forward asserts and counts

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Keeps opaque modules and torch.nn layers whole, unless what they read was overwritten."""
        if module_qualified_name in self.opaque:
            return True
        read = bool(self.overwritten) and self.overwritten.keys() & _own(module_qualified_name, m)
        return is_leaf(m) and not read

    def overwrite(self, parameter: TracedTensor, value: TracedValue) -> None:
        """Makes later reads of a parameter return what was written to it."""
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
        """Calls the model with an input of the graph for each argument that has tensors."""
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
        value, form = take_apart(item.value, named=False)
        given = unpack(self.create_proxy("placeholder", item.name, (), {}), value)
        return given if form is None else put_together(given, form)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Returns the traced value of a parameter or buffer, under its own path."""
        path = self.paths.get(id(attr_val)) if isinstance(attr_val, torch.Tensor) else None
        if path is None:
            return attr_val
        if path in self.overwritten:
            return self.overwritten[path]
        if path not in parameter_proxy_cache:
            node = self.create_node("get_attr", path, (), {})
            parameter_proxy_cache[path] = TracedTensor(self, node, attr_val)
        return parameter_proxy_cache[path]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Makes the value that forward sees of a node."""
        return TracedValue(node, self)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """Calls a module, and runs the forward hooks of one that stays whole."""
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

    def count(self, node: fx.Node, parts: int) -> None:
        """Notes into how many pieces forward unpacks a value."""
        self.taken.append(Taken(node, parts))

    def stubborn(self) -> list[str]:
        """Says which hooks do not run on traced values."""
        return [
            f"the forward hook {' and '.join(hook_names(self.root.get_submodule(path)))} of {path} "
            "does not run on traced values, so what it keeps is unknown"
            for path, ran in self.hooked.items()
            if not ran
        ]

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Makes a node, and notes the region it is in, and what it asserts."""
        node = mark(super().create_node(*args, **kwargs))
        if node.target is torch._assert:
            self.taken += [Taken(read) for read in node.all_input_nodes[:1]]
        return node

    def create_arg(self, a: Any) -> Any:
        """Takes numpy scalars for Python numbers."""
        if isinstance(a, np.generic):
            return a.item()  # its repr would not run in the generated code
        return super().create_arg(a)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Refuses that a value decides what runs, but for assertions."""
        frame = inspect.currentframe()
        caller = frame.f_back.f_back if frame and frame.f_back else None
        if caller is not None and is_assertion(caller):
            self.taken.append(Taken(obj.node))
            return True  # asserts hold on the example inputs
        return super().to_bool(obj)


def _own(path: str, module: nn.Module) -> set[str]:
    return {f"{path}.{name}" for name, _ in module.named_parameters()}
