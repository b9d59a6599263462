"""Lets statistics of weights go on learning where some of the weights are removed.

Before   a statistic over all elements of a weight
After    the same over those that are left, joined with what is stored of the removed ones

The removed weights count as constants that stay what they were. The gradient to the weights that
are left is then that of the whole statistic.
"""

from collections.abc import Callable, Container
from dataclasses import replace

import torch
from torch import fx

from gfx.coupling.removal.learning_weights import learn_weight
from gfx.coupling.removal.new_sizes import Sizes
from gfx.coupling.removal.statistic_arguments import Asked, asked
from gfx.coupling.removal.statistic_writer import StatisticWriter
from gfx.coupling.removal.weight_shifts import about_mean, unshifted
from gfx.coupling.removal.weights_left import cut_value, left_of
from gfx.ir.interpreter import ancestors
from gfx.ir.program import Program

__all__ = ["learn"]


def learn(program: Program, sizes: Sizes, node: fx.Node, changed: Container[fx.Node] = ()) -> bool:
    """Rewrites a statistic so that it goes on learning; says whether it could.

    `changed` holds the nodes whose value the removal changes: where the statistic is about a shift
    that follows from others of them, these go on learning first. The tensors of the program are
    still whole. Where it could not, the graph computes what it did.
    """
    if node in sizes.groups.constants.weights:
        return learn_weight(program, sizes, node)
    what = asked(node)
    if what is None:
        return False
    x, about = what.source, None
    left = left_of(program, sizes, x)
    if left is None and what.kind in ("sum", "mean"):
        x, about = about_mean(x, what)
    elif left is None and (what.kind in ("var", "std") or _is_root(what)):
        x, about = unshifted(program, sizes, x, what)
    if about is not None:
        for inner in _statistics(about, changed):
            cut_value(program, sizes, inner)  # it gets the shape that it will have
            return learn(program, sizes, inner, changed) and learn(program, sizes, node, changed)
        left = left_of(program, sizes, x)
    if left is None:
        return False
    writer = StatisticWriter(program, sizes, node, x, left.in_rows_that_stay(what.dims), what)
    try:
        shape = writer.cut_shape()
        rows = torch.empty(writer.left.whole.shape, device="meta").sum(what.dims, what.keepdim)
    except RuntimeError:
        return False
    root = what if about is None or what.kind != "norm" else replace(what, kind="std")
    if root.norm_of_zero(writer.left.whole) or rows.shape != shape:
        return False
    if about is not None and what.kind == "norm":
        about = _in_rows(writer, about)
        if about is None:
            return False
    if about is not None and what.kind in ("sum", "mean", "norm"):
        new = writer.squares_about(about, what.keepdim)
        new = writer.emit(torch.div, new, writer.count) if what.kind == "mean" else new
        new = writer.emit(torch.sqrt, new) if what.kind == "norm" else new
    else:
        new = _KINDS[what.kind](writer)
    writer.stand_in(new)
    return True


def _statistics(shift: fx.Node, changed: Container[fx.Node]) -> list[fx.Node]:
    """Lists the statistics of weights that a shift follows from, and that do not learn yet."""
    above = ancestors([shift])
    return [n for n in shift.graph.nodes if n in above and n in changed and asked(n) is not None]


def _in_rows(writer: StatisticWriter, shift: fx.Node) -> fx.Node | None:
    """Lays a shift out as the rows that it is of; None if they do not lie in rows."""
    whole, after = writer.left.whole, writer.sizes.after[shift]
    if after.ndim in (0, whole.ndim):
        return shift
    if writer.what.dims != (1,) or whole.ndim != 2 or after.numel() != len(whole):
        return None
    return writer.emit(torch.reshape, shift, (-1, 1))


def _is_root(what: Asked) -> bool:
    """Whether a statistic is the root of a sum of squares."""
    return what.kind == "norm" and what.number == 2


_KINDS: dict[str, Callable[[StatisticWriter], fx.Node]] = {
    "sum": lambda w: w.sum_of(w.what.keepdim),
    "mean": lambda w: w.mean(w.what.keepdim),
    "var": lambda w: w.variance(w.what.keepdim),
    "std": lambda w: w.emit(torch.sqrt, w.variance(w.what.keepdim)),
    "norm": lambda w: w.norm(w.what.keepdim),
    "amax": lambda w: w.extreme(w.what.keepdim, torch.amax),
    "amin": lambda w: w.extreme(w.what.keepdim, torch.amin),
    "logsumexp": lambda w: w.logsumexp(w.what.keepdim),
}
