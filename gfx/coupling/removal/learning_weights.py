"""Lets normalised weights go on learning where some of the weights are removed.

Before   normalize(w), a standardisation of w, softmax(w)
After    w by its norm, its moments or its logsumexp, which also count what is stored of the rest
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from gfx.coupling.normalised_weights import Normalised, normalised
from gfx.coupling.removal.new_sizes import Sizes
from gfx.coupling.removal.statistic_arguments import Asked
from gfx.coupling.removal.statistic_writer import StatisticWriter
from gfx.coupling.removal.weights_left import counts, left_of
from gfx.ir.program import Program

__all__ = ["learn_weight"]


def learn_weight(program: Program, sizes: Sizes, node: fx.Node) -> bool:
    """Writes a normalised weight out so that it goes on learning; says whether it could."""
    what = normalised(node)
    if what is None:
        return False
    found = [left_of(program, sizes, n) for n in what.reads]
    left = found[0]
    if left is None or None in found or counts(left.stays) != sizes.after[node].shape:
        return False
    reduction = Asked("norm", what.source, what.dims, True, what.order)
    rows = left.in_rows_that_stay(what.dims)
    rootless = what.kind == "norm" and not _floor(what, rows.whole.dtype)
    if rootless and reduction.norm_of_zero(rows.whole):
        return False
    writer = StatisticWriter(program, sizes, node, what.source, rows, reduction)
    if what.kind == "moments":
        new = _by_moments(writer, what)
    elif what.kind == "norm":
        new = _by_norm(writer, what)
    else:
        new = writer.emit(torch.sub, what.source, writer.logsumexp(True))
        new = new if what.kind == "log_softmax" else writer.emit(torch.exp, new)
    writer.stand_in(new)
    return True


def _by_moments(writer: StatisticWriter, what: Normalised) -> fx.Node:
    mean = writer.mean(True)
    variance = writer.emit(torch.div, writer.squares_about(mean, True), writer.count)
    deviation = writer.emit(torch.sqrt, writer.emit(torch.add, variance, what.number))
    found = writer.emit(torch.div, writer.emit(torch.sub, what.source, mean), deviation)
    after = what.source.meta["val"].ndim - what.first
    joins: tuple[Callable[..., Any], ...] = (torch.mul, torch.add)
    for vector, join in zip(what.vectors, joins, strict=True):
        if vector is not None:
            missing = after - vector.meta["val"].ndim
            if missing:
                vector = writer.emit(torch.reshape, vector, (-1, *[1] * missing))
            found = writer.emit(join, found, vector)
    return found


def _by_norm(writer: StatisticWriter, what: Normalised) -> fx.Node:
    """Divides by a norm that is at least eps: under the root, which has no gradient at zero."""
    floor = _floor(what, writer.left.whole.dtype)
    if what.order == 2 and floor:
        squares = writer.emit(torch.mul, what.source, what.source)
        total = writer.emit(torch.clamp_min, writer.sum_of(True, torch.square, squares), floor)
        return writer.emit(torch.div, what.source, writer.emit(torch.sqrt, total))
    norm = writer.emit(torch.clamp_min, writer.norm(True), what.number)
    return writer.emit(torch.div, what.source, norm)


def _floor(what: Normalised, dtype: torch.dtype) -> float:
    """Returns the least sum of squares, or 1 where a norm is no root; 0 if a type has no such."""
    if what.order in (1, math.inf):
        return 1.0
    least = what.number**2 if what.order == 2 else 0.0
    return least if torch.tensor(least, dtype=dtype) > 0 else 0.0
