"""Writes statistics of weights out, over what is left of them and what is stored of the rest.

1. A sum gains a stored sum; a mean is a sum by the old count; a norm is the root of a sum.
2. Squares about a mean m: sum over what is left, and M2 + n (mean - m)² of n removed elements,
   whose own mean and squares M2 are stored (Chan, Golub and LeVeque 1983, parallel variance).
3. A maximum is compared with a stored one; a logsumexp is joined by logaddexp.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from gfx.coupling.removal.masked_reference import fresh_name
from gfx.coupling.removal.new_sizes import Sizes
from gfx.coupling.removal.statistic_arguments import Asked
from gfx.coupling.removal.weights_left import Left, cut_value
from gfx.ir.node_origin import stands_for
from gfx.ir.program import Program

__all__ = ["StatisticWriter"]


class StatisticWriter:
    """Writes nodes before a statistic, and stores what is gone.

    Args:
        program: its tensors are still whole.
        sizes: what the removal leaves.
        node: the statistic.
        x: what it is taken of.
        left: what stays of x, in the rows that stay.
        what: how it is taken.
    """

    def __init__(
        self, program: Program, sizes: Sizes, node: fx.Node, x: fx.Node, left: Left, what: Asked
    ) -> None:
        self.program, self.sizes, self.node, self.x = program, sizes, node, x
        self.left, self.what = left, what
        self.count = math.prod(left.whole.shape[d] for d in what.dims)  # of the original

    def cut_shape(self) -> torch.Size:
        """Returns the shape that the statistic will have, by the analysis."""
        return torch.Size(self.sizes.after[self.node].shape)

    def emit(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """Adds a node before the statistic."""
        graph = self.program.graph
        with graph.inserting_before(self.node):
            new = graph.call_function(target, args, kwargs)
        return self._known(new)

    def buffer(self, value: Tensor) -> fx.Node:
        """Stores a value."""
        name = fresh_name(self.program.module, self.node.name)
        self.program.module.register_buffer(name, value.clone())
        with self.program.graph.inserting_before(self.node):
            return self._known(self.program.graph.get_attr(name))

    def _known(self, new: fx.Node) -> fx.Node:
        self.sizes.stands_for(new, self.node)
        stands_for(new, None)
        value = cut_value(self.program, self.sizes, new)
        new.meta["val"] = self.sizes.after[new] = torch.empty_like(value, device="meta")
        return new

    def gone(self, value: Tensor, fill: float = 0.0) -> Tensor:
        """Puts a number in the place of what is left."""
        return torch.where(self.left.stays, torch.full_like(value, fill), value)

    def sum_of(
        self, keepdim: bool, terms: Callable[[Any], Any] = lambda x: x, value: Any = None
    ) -> fx.Node:
        """Sums terms: `terms` of the values, and `value`, the node that computes them."""
        dims = list(self.what.dims)
        total = self.emit(torch.sum, self.x if value is None else value, dims, keepdim=keepdim)
        rest = self.gone(terms(self.left.whole)).sum(dims, keepdim=keepdim)
        return self.emit(torch.add, total, self.buffer(rest))

    def mean(self, keepdim: bool) -> fx.Node:
        """Averages (rule 1)."""
        return self.emit(torch.div, self.sum_of(keepdim), self.count)

    def squares_about(self, mean: fx.Node, keepdim: bool) -> fx.Node:
        """Sums the squares about one number for each row (rule 2)."""
        dims, away = list(self.what.dims), self.emit(torch.sub, self.x, mean)
        total = self.emit(torch.sum, self.emit(torch.mul, away, away), dims, keepdim=keepdim)
        whole = self.left.whole
        number = (~self.left.stays).sum(dims, keepdim=True).to(whole)
        own = self.gone(whole).sum(dims, keepdim=True) / number.clamp_min(1)
        squares = self.gone((whole - own).square()).sum(dims, keepdim=keepdim)
        if not keepdim:
            own, number = own.squeeze(dims), number.squeeze(dims)
            if mean.meta["val"].ndim:
                mean = self.emit(torch.squeeze, mean, tuple(dims))
        apart = self.emit(torch.sub, self.buffer(own), mean)
        apart = self.emit(torch.mul, self.emit(torch.mul, apart, apart), self.buffer(number))
        return self.emit(torch.add, self.emit(torch.add, total, apart), self.buffer(squares))

    def variance(self, keepdim: bool) -> fx.Node:
        """Computes a variance of correction `what.number` (rule 2)."""
        squares = self.squares_about(self.mean(True), keepdim)
        return self.emit(torch.div, squares, self.count - self.what.number)

    def norm(self, keepdim: bool) -> fx.Node:
        """Computes a vector norm of order `what.number`."""
        order = self.what.number
        if order == math.inf:
            return self.extreme(keepdim, torch.amax, absolute=True)
        if order == 2:
            squares = self.emit(torch.mul, self.x, self.x)
            return self.emit(torch.sqrt, self.sum_of(keepdim, torch.square, squares))
        sizes = self.emit(torch.abs, self.x)
        if order == 1:
            return self.sum_of(keepdim, torch.abs, sizes)
        powers = self.emit(torch.pow, sizes, order)
        total = self.sum_of(keepdim, lambda x: x.abs().pow(order), powers)
        return self.emit(torch.pow, total, 1 / order)

    def extreme(self, keepdim: bool, which: Callable[..., Any], absolute: bool = False) -> fx.Node:
        """Compares the largest or smallest that is left with that of what is gone (rule 3)."""
        dims, largest = list(self.what.dims), which is torch.amax
        x = self.emit(torch.abs, self.x) if absolute else self.x
        whole = self.left.whole.abs() if absolute else self.left.whole
        rest = which(self.gone(whole, -math.inf if largest else math.inf), dims, keepdim=keepdim)
        found = self.emit(which, x, dims, keepdim=keepdim)
        return self.emit(torch.maximum if largest else torch.minimum, found, self.buffer(rest))

    def logsumexp(self, keepdim: bool) -> fx.Node:
        """Computes the logarithm of a sum of exponentials (rule 3)."""
        dims = list(self.what.dims)
        rest = torch.logsumexp(self.gone(self.left.whole, -math.inf), dims, keepdim=keepdim)
        found = self.emit(torch.logsumexp, self.x, dims, keepdim=keepdim)
        return self.emit(torch.logaddexp, found, self.buffer(rest))

    def stand_in(self, new: fx.Node) -> None:
        """Puts a node that was written in the place of the statistic, which is dead then."""
        self.sizes.stands_for(new, self.node)
        new.meta["val"] = self.sizes.after[self.node]
        self.node.replace_all_uses_with(new)
        del self.node.meta["val"]  # no shape is predicted for a dead node
