"""Writes the calls of a graph by keyword, by name and place as torch itself documents them."""

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx
from torch.fx.operator_schemas import get_signature_for_torch_op
from torch.utils import _pytree as pytree

__all__ = ["by_keyword"]


def by_keyword(module: fx.GraphModule, inputs: tuple[Any, ...]) -> tuple[fx.GraphModule, int]:
    """Copies a graph with each call by keyword that torch takes so; counts them."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    twin = fx.GraphModule(module, graph, type(module).__name__)
    runner = _Runner(twin)
    runner.run(*inputs)
    twin.recompile()
    return twin, runner.changed


class _Runner(fx.Interpreter):
    """Runs a graph, and keeps each rewritten call that returns what the call before did."""

    changed = 0

    def run_node(self, n: fx.Node) -> Any:
        if n.op not in ("call_function", "call_method", "call_module"):
            return super().run_node(n)
        args, kwargs = n.args, n.kwargs
        given = pytree.tree_map_only(torch.Tensor, torch.clone, self.fetch_args_kwargs_from_env(n))
        state = torch.get_rng_state()
        result = super().run_node(n)
        for names in self.names(n):
            kept = 1 if n.op == "call_method" else 0
            if len(names) < len(args) or len(args) == kept:
                continue
            # the last one first: no order may matter
            named = dict(reversed(list(zip(names[kept:], args[kept:], strict=False))))
            values = dict(reversed(list(zip(names[kept:], given[0][kept:], strict=False))))
            torch.set_rng_state(state)
            try:
                call = getattr(self, n.op)
                again = call(n.target, given[0][:kept], {**values, **given[1]})
                torch.testing.assert_close(again, result, equal_nan=True)
            except Exception:  # torch does not take this call by keyword
                continue
            n.args, n.kwargs = args[:kept], {**named, **kwargs}
            self.changed += 1
            break
        return result

    def names(self, n: fx.Node) -> Iterator[list[str]]:
        """Yields what the arguments may be called."""
        target: Any = n.target
        if n.op == "call_module":
            target = self.module.get_submodule(n.target).forward
        elif n.op == "call_method":
            target = getattr(torch.Tensor, n.target, None)
        try:
            found = [inspect.signature(target)]
        except (TypeError, ValueError):
            found = get_signature_for_torch_op(target) or []
            packet = getattr(torch.ops.aten, str(n.target).rpartition(".")[2], None)
            if n.op == "call_method" and packet is not None:
                found = get_signature_for_torch_op(packet)
        for signature in found:
            yield list(signature.parameters)
