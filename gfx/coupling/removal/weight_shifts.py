"""Recognises weights that a statistic reads less a shift: (w - m)², and the variance of w - m."""

from torch import fx

from gfx.coupling.normalised_weights import MOVES
from gfx.coupling.removal.new_sizes import Sizes
from gfx.coupling.removal.statistic_arguments import Asked
from gfx.coupling.removal.weights_left import left_of, one_in_each_row
from gfx.ir.node_origin import stands_for
from gfx.ir.ops import argument, op_name
from gfx.ir.program import Program

__all__ = ["about_mean", "unshifted"]


def about_mean(x: fx.Node, what: Asked) -> tuple[fx.Node, fx.Node | None]:
    """Splits squares of x - m, where m is one number for all that is summed, into x and m."""
    name, inner = op_name(x), argument(x, 0)
    squared = (
        name == "square"
        or (name == "pow" and argument(x, 1, "exponent") == 2)
        or (name == "mul" and argument(x, 1) is inner)
    )
    if not squared or not isinstance(inner, fx.Node) or op_name(inner) != "sub":
        return x, None
    return _difference(inner, what)


def _difference(x: fx.Node, what: Asked) -> tuple[fx.Node, fx.Node | None]:
    source, shift = argument(x, 0), argument(x, 1, "other")
    if not isinstance(source, fx.Node) or not isinstance(shift, fx.Node) or x.kwargs:
        return x, None
    sizes, whole = shift.meta["val"].shape, source.meta["val"].shape
    if sizes and (len(sizes) != len(whole) or any(sizes[d] != 1 for d in what.dims)):
        return x, None
    return source, shift


def unshifted(
    program: Program, sizes: Sizes, x: fx.Node, what: Asked
) -> tuple[fx.Node, fx.Node | None]:
    """Takes a shift m out of x - m: it does not change a variance. x - m may have been reshaped."""
    if op_name(x) == "sub":
        return _difference(x, what)
    inner = argument(x, 0)
    if op_name(x) not in MOVES or not isinstance(inner, fx.Node) or op_name(inner) != "sub":
        return x, None
    source, shift = inner.args[:2]
    if inner.kwargs or not isinstance(source, fx.Node) or not isinstance(shift, fx.Node):
        return x, None
    with x.graph.inserting_before(x):
        moved = _copied(sizes, x, inner, source)
    if left_of(program, sizes, moved) is None:
        return x, None
    one = one_in_each_row(program, sizes, moved, source, shift, what.dims)
    return (moved, shift) if one else (x, None)


def _copied(sizes: Sizes, node: fx.Node, old: fx.Node, new: fx.Node) -> fx.Node:
    """Copies a node, with the sizes it reads, so that it reads another tensor."""

    def instead(n: fx.Node) -> fx.Node:
        if n is old:
            return new
        return _copied(sizes, n, old, new) if old in n.all_input_nodes else n

    found = node.graph.node_copy(node, instead)
    sizes.stands_for(found, node)
    stands_for(found, None)
    return found
