"""Gives each operation one name, whatever its spelling in the graph.

`torch.add`, `operator.add`, `operator.iadd`, `Tensor.add_` and `aten.add.Tensor` are all "add",
so that a rule is written once.
"""

from typing import Any

import torch
from torch import fx, nn

__all__ = ["argument", "is_inplace", "is_inplace_module", "norm_places", "only_shape", "op_name"]

# spellings that differ by more than an underscore or an i
_ALIASES = {
    "truediv": "div",
    "true_divide": "div",
    "divide": "div",
    "multiply": "mul",
    "subtract": "sub",
    "concat": "cat",
    "concatenate": "cat",
    "absolute": "abs",
    "negative": "neg",
    "sym_size": "size",
    "mod": "remainder",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "invert": "bitwise_not",
    "swapaxes": "transpose",
    "swapdims": "transpose",
    "moveaxis": "movedim",
    "greater": "gt",
    "less": "lt",
    "not_equal": "ne",
    "convolution": "conv",
    "conv2d_input": "conv2d",
    "scaled_dot_product_attention": "scaled_dot_product_attention",
    "__getitem__": "getitem",
    "__matmul__": "matmul",
}
# operator.iadd and friends; names such as "index" must keep their i
_INPLACE_OPERATORS = {
    f"i{name}": name
    for name in (
        "add",
        "sub",
        "mul",
        "truediv",
        "floordiv",
        "pow",
        "mod",
        "matmul",
        "and",
        "or",
        "xor",
    )
}


def op_name(node: fx.Node) -> str:
    """Names the operation of a call_function or call_method node; "" for any other node.

    Example:
        >>> graph = fx.Graph()
        >>> x = graph.placeholder("x")
        >>> op_name(graph.call_method("add_", (x, x)))
        'add'
        >>> op_name(graph.call_function(torch.relu, (x,)))
        'relu'
    """
    if node.op == "call_method":
        return _canonical(str(node.target))
    if node.op == "call_function":
        return _canonical(_function_name(node.target))
    return ""


def is_inplace(node: fx.Node) -> bool:
    """Whether a node writes into its first argument (`add_`, `x += y`, `relu(inplace=True)`)."""
    if node.kwargs.get("inplace") is True:
        return True
    if node.op == "call_method":
        name = str(node.target)
    elif node.op == "call_function":
        name = _function_name(node.target)
    else:
        return False
    if name in _INPLACE_OPERATORS or name == "setitem":
        return True
    return name.endswith("_") and not name.endswith("__")


def is_inplace_module(module: nn.Module) -> bool:
    """Whether a module says that it writes into its input (`nn.ReLU(inplace=True)`)."""
    # a module is slow to say that it has no such attribute
    said = "inplace" in vars(module) or hasattr(type(module), "inplace")
    return said and bool(getattr(module, "inplace", False))


def argument(node: fx.Node, position: int, *names: str, default: Any = None) -> Any:
    """Returns an argument; tensors' methods count their tensor as position 0."""
    if position < len(node.args):
        return node.args[position]
    return next((node.kwargs[name] for name in names if name in node.kwargs), default)


def norm_places(node: fx.Node) -> dict[str, int]:
    """Returns the places of a batch or instance norm's vectors, which torch and F order otherwise.

    Example:
        >>> x = fx.Graph().placeholder("x")
        >>> norm_places(x.graph.call_function(torch.batch_norm, (x,)))
        {'weight': 1, 'bias': 2, 'running_mean': 3, 'running_var': 4}
    """
    vectors = ("weight", "bias", "running_mean", "running_var")
    if getattr(node.target, "__module__", "") == "torch.nn.functional":
        vectors = (*vectors[2:], *vectors[:2])
    return {name: place for place, name in enumerate(vectors, 1)}


# what reads of their first argument its shape, type and device, and no number
_LIKE = frozenset(
    "zeros_like ones_like full_like rand_like randn_like randint_like empty_like new_zeros "
    "new_ones new_full new_empty size dim numel".split()
)
_SAME = frozenset("getitem detach clone contiguous to float double half".split())


def only_shape(node: fx.Node) -> bool:
    """Whether nothing reads a number of a node's value, as in `ones_like(x[:, :1])`.

    Example:
        >>> graph = fx.Graph()
        >>> x = graph.placeholder("x")
        >>> noise = graph.call_function(torch.randn_like, (x,))
        >>> only_shape(x), only_shape(noise)
        (True, False)
    """
    return bool(node.users) and all(_reads_shape(node, user) for user in node.users)


def _reads_shape(node: fx.Node, user: fx.Node) -> bool:
    name = op_name(user)
    if not user.args or user.args[0] is not node or user.all_input_nodes.count(node) > 1:
        return False
    if name == "getattr":
        return user.args[1] in ("shape", "dtype", "device", "ndim")
    return name in _LIKE or (name in _SAME and only_shape(user))


def _function_name(target: Any) -> str:
    if isinstance(target, torch._ops.OpOverload):
        return str(target._schema.name).rpartition("::")[2]
    return str(getattr(target, "__name__", type(target).__name__))


def _canonical(name: str) -> str:
    name = _INPLACE_OPERATORS.get(name, name)
    name = _ALIASES.get(name, name)
    if not name.startswith("__"):
        name = name.rstrip("_").lstrip("_")
    return _ALIASES.get(name, name)
