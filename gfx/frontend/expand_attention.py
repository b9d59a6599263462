"""Writes nn.MultiheadAttention out: projections, heads, attention, projection.

Before   y, w = attention(query, key, value)
After    y = out_proj(merge(scaled_dot_product_attention(split(query @ Wq), split(key @ Wk), ...)))

The parameters stay under their paths, in a plain module, and the analysis of channels sees each
of them. Where the weights of the attention are asked for, or dropped out, the softmax is explicit.
"""

import inspect
import operator
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils import parametrize

from gfx.frontend.attention_ops import AttentionLayer, Call, attended, masked
from gfx.ir.program import Program

__all__ = ["has_attention", "write_out_attention"]


def has_attention(module: fx.GraphModule) -> bool:
    """Whether a graph calls an attention that may be written out."""
    return any(_is_call(node, module) for node in module.graph.nodes)


def write_out_attention(module: fx.GraphModule) -> None:
    """Replaces calls of nn.MultiheadAttention and its functional form by what they do.

    1. The shapes of the graph's values are known: `node.meta["val"]`.
    2. Modules with hooks, parametrizations or another output projection stay whole, as do calls
       on nested tensors and with `static_k` or `static_v`.
    3. A module that is called several times is written out everywhere or nowhere.
    """
    calls = [node for node in module.graph.nodes if _is_call(node, module)]
    whole = {n.target for n in calls if n.op == "call_module" and not _can_write(n, module)}
    for node in calls:
        if node.target in whole or not _can_write(node, module):
            continue
        with module.graph.inserting_before(node):
            result = _written(node, module)
        _replace(node, result)
    for path in {str(n.target) for n in calls if n.op == "call_module" and n.target not in whole}:
        _hold(module, path)


def _is_call(node: fx.Node, module: fx.GraphModule) -> bool:
    if node.op == "call_module":
        return type(Program(module, ()).submodule(node)) is nn.MultiheadAttention
    return node.op == "call_function" and node.target is F.multi_head_attention_forward


def _can_write(node: fx.Node, module: fx.GraphModule) -> bool:
    """Applies rule 2 to a call."""
    call = _bound(node)
    given = [call[name].meta["val"] for name in ("query", "key", "value")]
    if any(value.is_nested or value.dim() not in (2, 3) for value in given):
        return False
    masks = [call["key_padding_mask"], call["attn_mask"]]
    flags = [call[name] for name in ("need_weights", "average_attn_weights", "is_causal")]
    if any(not isinstance(m, fx.Node | None) for m in masks) or not set(flags) <= {True, False}:
        return False
    if node.op == "call_function":
        return call["static_k"] is None and call["static_v"] is None
    parts = [
        module.get_submodule(str(node.target)),
        module.get_submodule(f"{node.target}.out_proj"),
    ]
    if any(p._forward_hooks or p._forward_pre_hooks or _computed(p) for p in parts):
        return False
    return type(parts[1]) in (nn.Linear, NonDynamicallyQuantizableLinear)


def _computed(module: nn.Module) -> bool:
    return parametrize.is_parametrized(module)


def _bound(node: fx.Node) -> Call:
    """Returns the arguments of a call by name, defaults included."""
    function: Callable[..., Any] = F.multi_head_attention_forward
    first: tuple[Any, ...] = ()
    if node.op == "call_module":
        function, first = nn.MultiheadAttention.forward, (None,)
    bound = inspect.signature(function).bind(*first, *node.args, **node.kwargs)
    bound.apply_defaults()
    return bound.arguments


def _written(node: fx.Node, module: fx.GraphModule) -> tuple[Any, Any]:
    """Emits a call and returns its two results, as nodes or None."""
    tracer = fx.proxy.GraphAppendingTracer(node.graph)
    call = {
        n: fx.Proxy(a, tracer) if isinstance(a, fx.Node) else a for n, a in _bound(node).items()
    }
    module_called = node.op == "call_module"
    layer = _of_module(node, module, tracer) if module_called else _of_call(call)
    if not call["need_weights"] or not (_asked(node, 1) or masked(call)):
        out, weights = attended(layer, call, explicit=False)
    else:  # a row that is all masked is NaN in it, and zero in the fused one
        out, weights = attended(layer, call, explicit=True)
    if weights is not None and call["average_attn_weights"]:
        weights = weights.mean(-3)
    return out.node, None if weights is None else weights.node


def _asked(node: fx.Node, item: int) -> bool:
    """Whether an item of the result is used."""
    return any(u.target is not operator.getitem or u.args[1] == item for u in node.users)


def _of_module(
    node: fx.Node, module: fx.GraphModule, tracer: fx.proxy.TracerBase
) -> AttentionLayer:
    path = str(node.target)
    layer: Any = module.get_submodule(path)
    graph = node.graph

    def tensor(name: str) -> Any:
        held = getattr(layer, name) is not None
        return fx.Proxy(graph.get_attr(f"{path}.{name}"), tracer) if held else None

    def called(name: str) -> Callable[[Any], Any]:
        return lambda x: fx.Proxy(graph.call_module(f"{path}.{name}", (x.node,)), tracer)

    three = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    names = ("in_proj_weight",) if layer._qkv_same_embed_dim else three
    if layer.dropout:
        layer.add_module("attn_dropout", nn.Dropout(layer.dropout).train(layer.training))
    return AttentionLayer(
        layer.num_heads,
        tuple(tensor(name) for name in names),
        tensor("in_proj_bias"),
        tensor("bias_k"),
        tensor("bias_v"),
        layer.add_zero_attn,
        layer.batch_first,
        called("attn_dropout") if layer.dropout else None,
        called("out_proj"),
    )


def _of_call(call: Call) -> AttentionLayer:
    three = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    names = three if call["use_separate_proj_weight"] else ("in_proj_weight",)
    chance = call["dropout_p"] if call["training"] else 0.0
    weight, bias = call["out_proj_weight"], call["out_proj_bias"]
    return AttentionLayer(
        call["num_heads"],
        tuple(call[name] for name in names),
        call["in_proj_bias"],
        call["bias_k"],
        call["bias_v"],
        call["add_zero_attn"],
        batch_first=False,
        drop=(lambda w: F.dropout(w, chance)) if chance else None,
        project=lambda x: F.linear(x, weight, bias),
    )


def _replace(node: fx.Node, result: tuple[Any, Any]) -> None:
    """Puts the two results in the place of a call."""
    for user in list(node.users):
        if user.target is operator.getitem:
            item: Any = user.args[1]
            _put(user, result[item])
    if node.users:
        _put(node, result)
    else:
        node.graph.erase_node(node)


def _put(node: fx.Node, value: Any) -> None:
    """Replaces a node by another, or by a tuple or None, in all that reads it."""

    def swapped(argument: Any) -> Any:
        return fx.node.map_arg(argument, lambda n: value if n is node else n)

    for user in list(node.users):
        user.args, user.kwargs = swapped(user.args), swapped(user.kwargs)
    node.graph.erase_node(node)


def _hold(module: fx.GraphModule, path: str) -> None:
    """Puts a plain module with the same parameters in the place of an attention."""
    layer = module.get_submodule(path)
    holder = nn.Module().train(layer.training)
    for name, parameter in layer._parameters.items():
        if parameter is not None:
            holder.register_parameter(name, parameter)
    old: Any = layer.get_submodule("out_proj")
    out = nn.Linear(old.in_features, old.out_features, old.bias is not None, device="meta")
    out.weight, out.bias = old.weight, old.bias
    holder.add_module("out_proj", out.train(old.training))
    if "attn_dropout" in layer._modules:
        holder.add_module("attn_dropout", layer.get_submodule("attn_dropout"))
    owner, _, name = path.rpartition(".")
    setattr(module.get_submodule(owner), name, holder)
