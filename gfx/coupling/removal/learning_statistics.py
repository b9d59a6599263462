"""Lets statistics of weights go on learning where some of the weights are removed.

Before   a statistic over all elements of a weight
After    the same over those that are left, joined with what is stored of the removed ones

The removed weights count as constants that stay what they were. The gradient to the weights that
are left is then that of the whole statistic.
"""

from collections.abc import Callable

import torch
from torch import fx

from gfx.coupling.removal.learning_weights import learn_weight
from gfx.coupling.removal.new_sizes import Sizes
from gfx.coupling.removal.statistic_arguments import asked
from gfx.coupling.removal.statistic_writer import StatisticWriter
from gfx.coupling.removal.weight_shifts import about_mean, unshifted
from gfx.coupling.removal.weights_left import left_of
from gfx.ir.program import Program

__all__ = ["learn"]


def learn(program: Program, sizes: Sizes, node: fx.Node) -> bool:
    """Rewrites a statistic so that it goes on learning; says whether it could.

    The tensors of the program are still whole. Where it could not, the graph computes what it did.
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
    elif left is None and what.kind in ("var", "std"):
        x, about = unshifted(program, sizes, x, what)
    if left is None:
        left = left_of(program, sizes, x) if about is not None else None
    if left is None:
        return False
    writer = StatisticWriter(program, sizes, node, x, left.in_rows_that_stay(what.dims), what)
    try:
        shape = writer.cut_shape()
        rows = torch.empty(writer.left.whole.shape, device="meta").sum(what.dims, what.keepdim)
    except RuntimeError:
        return False
    if what.kind in _KINDS and (what.norm_of_zero(writer.left.whole) or rows.shape != shape):
        return False
    if about is not None and what.kind in ("sum", "mean"):
        new = writer.squares_about(about, what.keepdim)
        new = writer.emit(torch.div, new, writer.count) if what.kind == "mean" else new
    else:
        new = _KINDS[what.kind](writer)
    writer.stand_in(new)
    return True


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
