"""Scores channels by gradients of the program's own output, without labels.

The loss is self-distillation. Let f be the program, and f' the program without a channel c. The
damage is the mean square change of the output, each output tensor in units of its root mean square:

    D(c) = E_x ‖f'(x) - f(x)‖² / ‖f(x)‖²

Its gradient at f' = f is zero, and its second-order expansion is exact in the output, so that D
follows from the Jacobian J of the output. Removing c equals zeroing it where it is read, that is,
turning a gate on c from 1 to 0 there:

    D(c) ≈ ‖J_c‖² = E_v [(∂ vᵀf / ∂gate_c)²]        v of independent signs, E[v vᵀ] = 1

so one backward pass for each draw of v (Hutchinson 1990) gives every gate of every group. Where the
output is linear in what is read, this is no approximation.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfx.compression.importance.aggregate import (
    Reduce,
    Scores,
    Squashed,
    combined,
    per_channel,
    weights_of,
)
from gfx.compression.importance.output_gradient import signs_for, slopes_of, wide
from gfx.compression.importance.reads import ReadSite, shared, sites_of
from gfx.compression.importance.session import Session, ranking
from gfx.coupling import Group, Groups, Member
from gfx.ir.execute import own, tensors

__all__ = ["fisher", "taylor"]

Inputs = Sequence[tuple[Any, ...]]


def taylor(
    groups: Groups, among: Sequence[Group], reduce: Reduce, batches: Inputs, seed: int
) -> dict[str, Scores]:
    """Returns √D for each channel, by gates where the channels are read.

    The effects of several reads on the output add up: `mean` and `sum` both square their sum, that
    is, they take the channel as a whole. `max` and `first` take one read alone.
    """
    program, sites = groups.program, sites_of(groups, among)
    gates = _Gates(sites)
    session = Session(program, sites, gates.see, seed)
    signs = signs_for(program, len(batches))
    total = np.zeros(sum(g.size for g in among))
    alone = [np.zeros(len(site.numbers)) for site in sites]
    count = 0

    def use(inputs: tuple[Any, ...], number: int) -> None:
        nonlocal count
        gates.close(inputs)
        output = session.run(inputs, {}, number)
        for slopes in slopes_of(output, gates.leaves, seed + number, signs):
            effects = gates.effects(slopes)
            joint = np.zeros((len(effects[0]) if effects else 1, len(total)))
            for site, row, effect in zip(sites, alone, effects, strict=True):
                joint[:, site.numbers] += effect
                row += np.square(effect).sum(0)
            total[:] += np.square(joint).sum(0)
            count += 1

    with ranking(program, "taylor"):
        session.each(batches, use)
    if reduce in ("max", "first"):
        total = _one_of(sites, alone, len(total), reduce)
    return shared(among, np.sqrt(total / max(count, 1)))


def fisher(
    groups: Groups, among: Sequence[Group], reduce: Reduce, batches: Inputs, seed: int
) -> dict[str, Scores]:
    """Returns √Σw²F for each channel, with F the diagonal of the Fisher information.

    F(w) = E_v [(∂ vᵀf / ∂w)²] is the second derivative of D / 2 by a weight; interactions of
    weights are left out. `reduce` combines the layers' Σw²F, in the unit of D.
    """
    layers = {g.name: list(weights_of(groups, g)) for g in among}
    values = {m.tensor: value for pairs in layers.values() for m, value in pairs}
    program = groups.program
    session = Session(program, [], lambda _, value: value, seed)
    signs = max(signs_for(program, len(batches)) // 4, 1)  # many weights average out
    squares = {path: torch.zeros_like(value, dtype=wide(value)) for path, value in values.items()}
    count = 0

    def use(inputs: tuple[Any, ...], number: int) -> None:
        nonlocal count
        leaves = {path: own(value).requires_grad_() for path, value in values.items()}
        output = session.run(inputs, leaves, number)
        for slopes in slopes_of(output, list(leaves.values()), seed + number, signs):
            for path, slope in zip(leaves, slopes, strict=True):
                if slope is not None:
                    squares[path] += slope.to(squares[path].dtype) ** 2
            count += 1

    with ranking(program, "fisher"):
        session.each(batches, use)
    scores = {}
    for group in among:
        rows = [
            _weighted(m, value, squares[m.tensor] / max(count, 1), group.size)
            for m, value in layers[group.name]
        ]
        scores[group.name] = np.sqrt(combined(rows, group.size, reduce))
    return scores


class _Gates:
    """Multiplies each read by a gate of ones, one for each index that is read.

    Examples of one batch do not mix, and the signs of v are independent, so each example has its
    own gates where it is the first dimension: a batch then gives as many draws as examples.
    """

    def __init__(self, sites: Sequence[ReadSite]) -> None:
        self.sites = sites
        self.batch = 1
        self.gates: dict[int, Tensor] = {}  # by number of the site

    @property
    def leaves(self) -> list[Tensor]:
        """The gates that were met, in the order of `gates`."""
        return list(self.gates.values())

    def close(self, inputs: tuple[Any, ...]) -> None:
        """Drops all gates before a new batch."""
        firsts = {x.shape[0] for x in tensors(inputs) if x.ndim}
        self.batch = firsts.pop() if len(firsts) == 1 else 1
        self.gates.clear()

    def see(self, number: int, value: Tensor) -> Tensor:
        """Multiplies what a site reads by its gate."""
        dim = self.sites[number].read.dim % value.ndim
        view = [1] * value.ndim
        view[dim] = value.shape[dim]
        if dim > 0 and value.shape[0] == self.batch:
            view[0] = self.batch
        dtype = wide(value)
        gate = torch.ones(view, dtype=dtype, device=value.device).requires_grad_()
        self.gates[number] = gate
        # in half precision the sum over an image would overflow
        return value * gate if value.is_complex() else (value.to(dtype) * gate).to(value.dtype)

    def effects(self, slopes: Sequence[Tensor | None]) -> list[Scores]:
        """Returns for each site the slopes (examples, channels); one row if they share a gate."""
        found: dict[int, Tensor] = {}
        for number, slope in zip(self.gates, slopes, strict=True):
            if slope is not None:
                dim = self.sites[number].read.dim % slope.ndim
                rows = slope.shape[0] if dim else 1
                found[number] = slope.reshape(rows, -1).double().cpu()
        apart = all(len(rows) == self.batch for rows in found.values())
        height = self.batch if apart else 1
        effects = []
        for number, site in enumerate(self.sites):
            if number not in found:
                effects.append(np.zeros((height, len(site.numbers))))
                continue
            table = found[number] if apart else found[number].sum(dim=0, keepdim=True)
            effects.append(np.stack([site.by_channel(row) for row in table.numpy()]))
        return effects


def _one_of(
    sites: Sequence[ReadSite], alone: Sequence[Scores], size: int, reduce: Reduce
) -> Scores:
    """Takes for each channel the largest of several reads, or the first that is not zero."""
    found = np.zeros(size)
    for site, row in zip(sites, alone, strict=True):
        old = found[site.numbers]
        found[site.numbers] = np.maximum(old, row) if reduce == "max" else np.where(old, old, row)
    return found


def _weighted(member: Member, value: Tensor, squares: Tensor, size: int) -> Scores:
    """Sums w²F over the slices of each channel."""
    root = value.to(squares.dtype) * squares.sqrt()
    return per_channel(member, Squashed(2)(root, root, member.dim), size)
