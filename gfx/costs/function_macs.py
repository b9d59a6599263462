"""Counts the MACs of a function call: one closed form per operation, whatever its spelling."""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import fx

from gfx.costs import mac_formulas as formulas
from gfx.costs.cost import Macs
from gfx.ir.ops import op_name

__all__ = ["function_macs"]

Rule = Callable[[tuple[Any, ...], dict[str, Any], torch.Tensor], Macs | None]


def function_macs(
    node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
) -> Macs | None:
    """Counts a call on fake tensors; None if it must run under torch's counter.

    Example:
        >>> x, graph = torch.empty(2, 3, 4), fx.Graph()
        >>> node = graph.call_function(torch.matmul, (None, None))
        >>> function_macs(node, (x, x.mT), {}, x @ x.mT).exact
        72
    """
    name = op_name(node)
    if name in _WATCHED or (node.op == "call_function" and _foreign(node.target)):
        return None
    rule = _RULES.get(name)
    return Macs() if rule is None else rule(args, kwargs, out)


def _conv(args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor) -> Macs:
    x, weight = _argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "weight")
    transposed = bool(_argument(args, kwargs, 6, "transposed"))
    return formulas.conv(x.shape, weight.shape, out.shape, transposed=transposed)


def _direct_conv(args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor) -> Macs:
    x, weight = _argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "weight")
    return formulas.conv(x.shape, weight.shape, out.shape)


def _transposed(args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor) -> Macs:
    x, weight = _argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "weight")
    return formulas.conv(x.shape, weight.shape, out.shape, transposed=True)


def _product(args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor) -> Macs:
    """Counts matmul and its variants: every output element sums over the left's last dimension."""
    left = _argument(args, kwargs, 0, "input", "self")
    return formulas.contraction(out.shape, left.shape[-1])


def _added_product(args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor) -> Macs:
    left = _argument(args, kwargs, 1, "mat1", "batch1", "mat")
    return formulas.contraction(out.shape, left.shape[-1])


def _summed_product(args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor) -> Macs:
    batch, _, inner = _argument(args, kwargs, 1, "batch1").shape
    return formulas.contraction(out.shape, batch * inner)


def _bilinear(args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor) -> Macs:
    _, left, right = _argument(args, kwargs, 2, "weight").shape
    return formulas.contraction(out.shape, left * right)


def _attention(args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor) -> Macs:
    query, key = _argument(args, kwargs, 0, "query"), _argument(args, kwargs, 1, "key")
    return formulas.attention(query.shape, key.shape, out.shape)


def _einsum(args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor) -> Macs | None:
    """Counts a product of two tensors: one for each combination of indices.

    None where a sum comes before the product, or the equation is not plain: torch knows best then.
    """
    equation, *operands = args
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = list(operands[0])
    if not isinstance(equation, str) or len(operands) != 2:
        return None
    left, _, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if "." in equation or "->" not in equation or any(len(set(t)) < len(t) for t in terms):
        return None
    if any(letter not in result for letter in set(terms[0]) ^ set(terms[1])):
        return None
    sizes: dict[str, Any] = {}
    for term, operand in zip(terms, operands, strict=True):
        for letter, size in zip(term, operand.shape, strict=True):
            broadcast = isinstance(size, int) and size == 1
            sizes[letter] = sizes.get(letter, size) if broadcast else size
    return Macs.same(prod(sizes.values()))


def _norm(args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor) -> Macs:
    return formulas.instance_norm(out.shape)


_RULES: dict[str, Rule] = {
    "conv": _conv,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _direct_conv),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    **dict.fromkeys(("linear", "matmul", "mm", "bmm", "mv", "dot", "vdot", "inner"), _product),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), _added_product),
    "addbmm": _summed_product,
    "bilinear": _bilinear,
    "scaled_dot_product_attention": _attention,
    "instance_norm": _norm,
    "einsum": _einsum,
}
# composites: torch knows best how it contracts them
_WATCHED = frozenset(
    {"tensordot", "multi_dot", "linalg_multi_dot", "chain_matmul"}
    | {"multi_head_attention_forward", "lstm", "gru", "rnn_tanh", "rnn_relu"}
    | {"lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"}
)
_OWN = frozenset({"torch", "operator", "_operator", "builtins", "math"})


def _foreign(target: Any) -> bool:
    """Whether a function is neither torch's nor Python's, so that anything may be in it."""
    if isinstance(target, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        return not str(target).startswith(("aten.", "prims."))
    return (getattr(target, "__module__", None) or "torch").partition(".")[0] not in _OWN


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, *names: str) -> Any:
    """Finds an argument by place or by one of its names; None if it was not given."""
    if len(args) > place:
        return args[place]
    return next((kwargs[name] for name in names if name in kwargs), None)
