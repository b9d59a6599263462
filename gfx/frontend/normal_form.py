"""Makes a normalized GraphModule of a traced graph: the last step of every front end."""

import operator
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from gfx.frontend.aten_ops import is_check, respell
from gfx.frontend.call_arguments import by_place, require_spelled
from gfx.frontend.regions import same_region
from gfx.ir.ops import is_inplace, is_inplace_module
from gfx.ir.program import Program
from gfx.objects.call_form import PlainTracer

__all__ = ["normal_form"]


def normal_form(model: nn.Module, graph: fx.Graph, *, late: bool = False) -> fx.GraphModule:
    """Makes the GraphModule of a traced model; it takes the model's modules and tensors over.

    1. Guards and asserts go, aten operations get their torch spelling.
    2. numpy scalars become Python numbers: their text does not run in generated code. Arguments
       stand at their places; what code cannot spell is refused.
    3. What a graph overwrites is never the caller's tensor, and what reads a tensor after an
       in-place operation reads that operation's result.
    4. Dead code and unused modules go.
    5. Containers keep their training flag, buffers stay out of the state dict where they were.
    6. What has a name that a GraphModule needs for itself, such as `code`, gets another.

    With `late`, it is compiled once it runs, if it is not recompiled before.

    Raises: Refusal if code cannot spell an argument.
    """
    if graph._tracer_cls is not PlainTracer:
        graph._tracer_cls = fx.Tracer  # pickle traces the generated code again, with this class
    for node in list(graph.nodes):
        _tidy(graph, node)
    by_place(model, graph)
    require_spelled(model, graph)
    _rename(model, graph)
    module = _graph_module(model, graph)
    for node in list(graph.nodes):
        _spare_input(node, module)
    order = {node: index for index, node in enumerate(graph.nodes)}
    for node in order:
        _thread(node, module, order)
    Program(module, ()).tidy()
    if not late:
        module.recompile()
    _keep_flags(model, module)
    return module


def _graph_module(model: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    """Makes a GraphModule that is compiled once it runs."""
    module = fx.GraphModule.__new__(fx.GraphModule)
    own: Any = type(module)  # each GraphModule has a class of its own
    own.recompile = lambda self: None
    try:
        module.__init__(model, graph, type(model).__name__)  # type: ignore[misc]
    finally:
        del own.recompile
    own.forward = _compile_first
    return module


def _compile_first(module: fx.GraphModule, *args: Any, **kwargs: Any) -> Any:
    module.recompile()  # which puts the forward of the graph in this one's place
    return module.forward(*args, **kwargs)


_TAKEN = frozenset(dir(fx.GraphModule)) - frozenset(dir(nn.Module))


def _rename(model: nn.Module, graph: fx.Graph) -> None:
    """Applies rule 6; the model holds what it renames under both names."""
    for node in graph.nodes:
        first, dot, rest = str(node.target).partition(".")
        if node.op not in ("get_attr", "call_module") or first not in _TAKEN:
            continue
        places: tuple[dict[str, Any], ...] = (
            model._modules, model._parameters, model._buffers, vars(model)
        )  # fmt: skip
        for held in places:
            if first in held:
                held[f"{first}_"] = held[first]
        node.target = f"{first}_{dot}{rest}"


def _tidy(graph: fx.Graph, node: fx.Node) -> None:
    """Applies rules 1 and 2 to a node."""
    node.args = fx.node.map_aggregate(node.args, _number)
    node.kwargs = fx.node.map_aggregate(node.kwargs, _number)
    if node.op != "call_function":
        return
    if isinstance(node.target, type) and hasattr(node.target, "_fields"):
        _write_out(graph, node)
        return
    if is_check(node.target):
        graph.erase_node(node)
    elif isinstance(node.target, torch._ops.OpOverload):
        with graph.inserting_before(node):
            new = respell(graph, node.target, node.args, dict(node.kwargs))
            same_region(node, new)
        node.replace_all_uses_with(new)
        graph.erase_node(node)


def _write_out(graph: fx.Graph, node: fx.Node) -> None:
    """Writes a named tuple that is made by a call as a value, as it is in exported graphs."""
    kind: Any = node.target
    value = kind(*node.args, **node.kwargs)

    def put(argument: Any) -> Any:
        return value if argument is node else argument

    for user in list(node.users):
        user.args = fx.node.map_aggregate(user.args, put)
        user.kwargs = fx.node.map_aggregate(user.kwargs, put)
    graph.erase_node(node)


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _written(node: fx.Node, module: fx.GraphModule) -> fx.Node | None:
    """Returns what a node writes to, or None."""
    layer = Program(module, ()).submodule(node) if node.op == "call_module" else None
    writes = is_inplace(node) or (layer is not None and is_inplace_module(layer))
    return node.all_input_nodes[0] if writes and node.all_input_nodes else None


def _spare_input(node: fx.Node, module: fx.GraphModule) -> None:
    """Copies an input that a node writes to (rule 3)."""
    written = _written(node, module)
    source = written
    while source is not None and source.target is operator.getitem:
        source = source.all_input_nodes[0]
    if written is None or source is None or source.op != "placeholder":
        return
    with module.graph.inserting_after(written):
        clone = module.graph.call_method("clone", (written,))
    written.replace_all_uses_with(clone, delete_user_cb=lambda user: user is not clone)


def _thread(node: fx.Node, module: fx.GraphModule, order: dict[fx.Node, int]) -> None:
    """Makes later readers of an overwritten tensor read the in-place result (rule 3)."""
    written = _written(node, module)
    if written is not None and node.target is not operator.setitem:
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
