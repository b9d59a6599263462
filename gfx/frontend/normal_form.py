"""The last step of every front end: a graph becomes a tidy GraphModule."""

import operator
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from gfx.frontend.spelling import is_check, respell
from gfx.ops import is_inplace
from gfx.program import Program

__all__ = ["normal_form"]


def normal_form(model: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    """Makes the GraphModule of a traced model; it takes the model's modules and tensors over.

    1. Guards and asserts go, aten operations get their torch spelling.
    2. numpy scalars become Python numbers: their text does not run in generated code.
    3. What reads a tensor after an in-place operation reads that operation's result.
    4. Dead code and unused modules go.
    5. Containers keep their training flag, buffers stay out of the state dict where they were.
    """
    graph._tracer_cls = fx.Tracer  # pickle traces the generated code again, with this class
    for node in list(graph.nodes):
        _tidy(graph, node)
    module = fx.GraphModule(model, graph, type(model).__name__)
    order = {node: index for index, node in enumerate(graph.nodes)}
    for node in order:
        _thread(node, module, order)
    Program(module, ()).recompile()
    _keep_flags(model, module)
    return module


def _tidy(graph: fx.Graph, node: fx.Node) -> None:
    """Applies rules 1 and 2 to a node."""
    node.args = fx.node.map_aggregate(node.args, _number)  # type: ignore[assignment]
    node.kwargs = fx.node.map_aggregate(node.kwargs, _number)  # type: ignore[assignment]
    if node.op != "call_function":
        return
    if is_check(node.target):
        graph.erase_node(node)
    elif isinstance(node.target, torch._ops.OpOverload):
        with graph.inserting_before(node):
            new = respell(graph, node.target, node.args, dict(node.kwargs), node.name)
        node.replace_all_uses_with(new)
        graph.erase_node(node)


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _thread(node: fx.Node, module: fx.GraphModule, order: dict[fx.Node, int]) -> None:
    """Applies rule 3 to a node."""
    written = node.args[0] if node.args else None
    if not isinstance(written, fx.Node) or node.target is operator.setitem:
        return
    layer = module.get_submodule(str(node.target)) if node.op == "call_module" else None
    if is_inplace(node) or getattr(layer, "inplace", False):
        now = order[node]
        written.replace_all_uses_with(node, delete_user_cb=lambda user: order[user] > now)


def _keep_flags(model: nn.Module, module: fx.GraphModule) -> None:
    """Applies rule 5."""
    originals = dict(model.named_modules(remove_duplicate=False))
    for path, part in module.named_modules():
        original = originals.get(path)
        if original is None or original is part:
            continue
        part.training = original.training
        hidden = original._non_persistent_buffers_set & set(part._buffers)
        part._non_persistent_buffers_set |= hidden
