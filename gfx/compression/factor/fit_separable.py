"""Fits depthwise filters and the pointwise mixing of one group to inputs and targets.

Let X_i be the patches of input channel i, M_i = P_i · D_i its kernel matrix of rank r, Y the
targets. Wanted is the least ‖Y - Σ X_i M_iᵀ‖².

1. Filters: M_i is the layer's own matrix, cut to rank r, with the error weighed by X_iᵀX_i.
2. Mixing: all P together, by least squares on the features X_i D_iᵀ.
3. A round: each M_i in turn, given the others, is the least-squares solution cut to rank r, which
   is optimal (reduced-rank regression, Izenman 1975); then all P together, as in 2.

No step makes the error on these rows larger.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from gfx.compression.factor.least_squares import regressed, roots, truncated, unit

__all__ = ["Separation", "separate"]

_BLOCK = 512  # columns of patches that meet in one Gram matrix


class Separation:
    """Holds the patches and targets of one group of a layer, and the residual of the fit.

    Shapes: patches (rows, inputs, area), targets (rows, outputs), kernel (outputs, inputs, area).
    """

    def __init__(self, patches: Tensor, targets: Tensor, kernel: Tensor, rank: int) -> None:
        self.patches, self.targets, self.rank = patches, targets, rank
        _, inputs, area = patches.shape
        each = max(_BLOCK // area, 1)
        self.blocks = [slice(s, min(s + each, inputs)) for s in range(0, inputs, each)]
        self.grams = [_gram(self.patches[:, block]) for block in self.blocks]
        squares = torch.cat([_diagonal(g, area) for g in self.grams])
        self.root, self.inverse = roots(squares)
        # rank-r kernel of each channel: mixing (inputs, outputs, r), filters (inputs, r, area)
        self.mixing, self.filters = truncated(kernel.transpose(0, 1), self.root, self.inverse, rank)

    def mix(self) -> None:
        """Solves for all mixing weights together (step 2)."""
        self.mixing, self.filters = unit(self.mixing, self.filters)
        features = self._features()
        left = self.targets - features @ self._points().mT
        change = regressed(features, left)
        shape = (change.shape[0], self.patches.shape[1], self.rank)
        self.mixing = self.mixing + change.reshape(shape).transpose(0, 1)

    def sweep(self) -> None:
        """Solves for each channel's filters and mixing weights in turn (step 3)."""
        left = self.targets - self._features() @ self._points().mT
        for block, square in zip(self.blocks, self.grams, strict=True):
            columns, before = self.patches[:, block].flatten(1), self._kernel(block)
            self._sweep(block, square, left.mT @ columns)
            change = (self._kernel(block) - before).transpose(0, 1).flatten(1)
            left -= columns @ change.mT

    def _sweep(self, block: slice, square: Tensor, open_: Tensor) -> None:
        """Updates the channels of a block; `open_` is the residual times their patches."""
        area = self.patches.shape[2]
        for place, channel in enumerate(range(block.start, block.stop)):
            own = slice(place * area, (place + 1) * area)
            inverse, root = self.inverse[channel], self.root[channel]
            old = self.mixing[channel] @ self.filters[channel]
            best = old + open_[:, own] @ inverse @ inverse
            mixing, filters = truncated(best, root, inverse, self.rank)
            self.mixing[channel], self.filters[channel] = mixing, filters
            open_ -= (mixing @ filters - old) @ square[own]

    def _kernel(self, block: slice) -> Tensor:
        return self.mixing[block] @ self.filters[block]

    def _features(self) -> Tensor:
        """Returns the outputs of the filters, (rows, inputs · r)."""
        return torch.einsum("nia,ira->nir", self.patches, self.filters).flatten(1)

    def _points(self) -> Tensor:
        """Returns the mixing weights as (outputs, inputs · r)."""
        return self.mixing.transpose(0, 1).flatten(1)


def separate(
    patches: Tensor, targets: Tensor, kernel: Tensor, rank: int, rounds: int
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yields the name, filters and mixing weights of each step, the last being the best.

    Shapes: filters (inputs, r, area), mixing (outputs, inputs · r).
    """
    state = Separation(patches, targets, kernel, rank)
    yield "whitened", state.filters.clone(), state._points()
    state.mix()
    yield "mixed", state.filters.clone(), state._points()
    for number in range(rounds):
        state.sweep()
        state.mix()
        yield f"round {number + 1}", state.filters.clone(), state._points()


def _gram(patches: Tensor) -> Tensor:
    columns = patches.flatten(1)
    return columns.mT @ columns


def _diagonal(square: Tensor, area: int) -> Tensor:
    """Returns the blocks on the diagonal, (channels, area, area)."""
    channels = len(square) // area
    whole = square.reshape(channels, area, channels, area)
    return torch.stack([whole[i, :, i] for i in range(channels)])
