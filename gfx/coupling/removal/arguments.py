"""Writes a node's arguments, whether given by position or by name, and reads what is in them."""

import operator
from fractions import Fraction
from typing import Any

from torch import Tensor, fx

from gfx.coupling.labelled_tensor import Labeled, varying
from gfx.coupling.removal.new_sizes import Sizes
from gfx.ir.ops import argument, op_name

__all__ = ["entry", "numbers", "put", "reads_tensor"]


def put(node: fx.Node, position: int, value: Any, *names: str) -> None:
    """Writes an argument where it was given, or by its first name if it was not."""
    if position < len(node.args):
        node.update_arg(position, value)
    else:
        node.update_kwarg(next((name for name in names if name in node.kwargs), names[0]), value)


def numbers(value: Any, after: dict[fx.Node, Any] | None = None) -> Any:
    """Replaces nodes inside an argument by their values: now, or those of a map."""
    return fx.node.map_arg(value, lambda n: n.meta["val"] if after is None else after[n])


def reads_tensor(node: fx.Node) -> bool:
    """Whether the first argument is a tensor of the graph."""
    first = argument(node, 0)
    return isinstance(first, fx.Node) and isinstance(first.meta["val"], Tensor)


def entry(node: fx.Node, value: Any, wanted: int, sizes: Sizes) -> Any:
    """Returns one size argument: what it was if that still holds, else what is wanted.

    A computed size stays computed, times the fraction that is left: it may count images too, as
    where a batch is folded into the channels. One that would be 0, as `c // 8` of few channels, or
    in a general form one of channels alone, becomes a number.
    """
    now = sizes.after[value] if isinstance(value, fx.Node) else value
    if now == -1 or (now == wanted and not (sizes.general and isinstance(value, fx.Node))):
        return value
    if not isinstance(value, fx.Node) or now == 0 or (sizes.general and _of_channels(value, sizes)):
        return wanted
    share = Fraction(wanted, now)
    above, below = (wanted, now) if sizes.general else (share.numerator, share.denominator)
    with node.graph.inserting_before(node):
        if above > 1 or sizes.general:
            value = node.graph.call_function(operator.mul, (value, above))
        return node.graph.call_function(operator.floordiv, (value, below))


def _of_channels(value: fx.Node, sizes: Sizes) -> bool:
    """Whether a size is computed from numbers of channels alone, so that no image changes it."""
    if op_name(value) in ("size", "getitem"):
        x, dim = argument(value, 0), argument(value, 1)
        if isinstance(x, fx.Node) and op_name(x) in ("size", "getattr"):
            x = argument(x, 0)
        labeled = sizes.value_of(x) if isinstance(x, fx.Node) else None
        if not isinstance(labeled, Labeled) or not isinstance(dim, int):
            return False
        return any(dim % labeled.ndim in varying(labels) for labels in labeled.fields)
    above = value.all_input_nodes
    return (
        value.op == "call_function" and bool(above) and all(_of_channels(n, sizes) for n in above)
    )
