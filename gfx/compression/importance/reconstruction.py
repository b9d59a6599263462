"""Scores channels by the error that is left after their readers are refitted without them.

Removing a channel need not lose its information: the layer that reads it can be solved for anew
(passes/refit.py), and then takes from the other channels what they share with it. Let x be what is
read at one position, S the channels that stay, and r = x - P x_S the part of x that is no linear
map of x_S. With G = E[x xᵀ] over positions and M = Σ g gᵀ, g the gradient of the output by x,

    D(S) = tr(M · E[r rᵀ]),    E[r rᵀ] = G - G_{:S} G_SS⁻¹ G_{S:}

is the remaining relative square change of the output, to first order, with errors of different
positions taken as independent. Channels are removed one after the other, each time the one whose
removal raises D least. With K = G_SS⁻¹ and W = P M^½ the step is in closed form, as in the optimal
brain surgeon (Hassibi & Stork 1992):

    D(S - c) - D(S) = ‖W_c‖² / K_cc

so that all steps together take about the time of one matrix inversion.

Source: He et al. 2017, arXiv:1707.06168, and Luo et al. 2017, arXiv:1707.06342, choose channels by
what the reader's least squares reproduces. M weighs the reader's outputs by their effect on the
output and makes groups comparable; gfx/compression/importance/taylor_fisher.py derives it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfx.compression.importance.aggregate import Reduce, Scores
from gfx.compression.importance.output_gradient import signs_for, slopes_of
from gfx.compression.importance.reads import ReadSite, sites_of
from gfx.compression.importance.session import Session, ranking
from gfx.coupling import Group, Groups
from gfx.errors import InputError
from gfx.progress import each

__all__ = ["reconstruction"]

_RIDGE = 1e-4  # times a channel's mean square
_AT_ONCE = 64  # of as many channels that stay, one goes at a step
_ROWS = 1 << 16  # positions that are multiplied at a time


def reconstruction(
    groups: Groups,
    among: Sequence[Group],
    reduce: Reduce,
    batches: Sequence[tuple[Any, ...]],
    seed: int,
) -> dict[str, Scores]:
    """Returns the root of what the removal of each channel adds to D, in the order of removal.

    Each read of a channel is refitted apart, and `reduce` combines what they add to D; `mean` and
    `sum` both take the sum.

    Raises: InputError if an activation or a gradient is not finite.
    """
    program, sites = groups.program, sites_of(groups, among)
    moments = _ReadMoments(sites)
    session = Session(program, sites, moments.see, seed)
    signs = max(signs_for(program, len(batches)) // 8, 1)  # each has many positions

    def use(inputs: tuple[Any, ...], number: int) -> None:
        moments.values.clear()
        output = session.run(inputs, {}, number)
        moments.add_values()
        for slopes in slopes_of(output, list(moments.values.values()), seed + number, signs):
            moments.add_slopes(slopes)

    with ranking(program, "reconstruction"):
        session.each(batches, use)
    parts = _parts(sites, among, moments)
    scoring = each(among, "scoring channels by what their readers could make up for")
    return {g.name: _scored(parts[g.name], g.size, reduce) for g in scoring}


@dataclass
class _Part:
    """Holds what one place reads of one group: `rows[k]` is the group's channel of index k."""

    channels: Tensor
    inputs: Tensor  # G
    slopes: Tensor  # M


class _ReadMoments:
    """Accumulates, for each site, second moments of the values read and of their gradients."""

    def __init__(self, sites: Sequence[ReadSite]) -> None:
        self.sites = sites
        self.values: dict[int, Tensor] = {}  # by number of the site, of this batch
        self.inputs: dict[int, Tensor] = {}
        self.slopes: dict[int, Tensor] = {}
        self.rows: dict[int, int] = {}  # positions seen
        self.draws = 0

    def see(self, number: int, value: Tensor) -> Tensor:
        """Stores what a site reads, as a clone that has a gradient of its own."""
        value = value if value.requires_grad else value.detach().requires_grad_()
        self.values[number] = value.clone()
        return self.values[number]

    def add_values(self) -> None:
        """Adds the moments of the values read."""
        for number, value in self.values.items():
            moment, rows = self._moment(number, value)
            self.inputs[number] = self.inputs.get(number, 0) + moment
            self.rows[number] = self.rows.get(number, 0) + rows
            if not bool(torch.isfinite(self.inputs[number]).all()):
                raise InputError(
                    f"{self.sites[number].read.operand.name} is not finite on the data, so its "
                    "channels cannot be ranked by it; repair the model's weights or the data, or "
                    "use importance: l1"
                )

    def add_slopes(self, slopes: Sequence[Tensor | None]) -> None:
        """Adds the gradients of one draw, in the order of `values`."""
        self.draws += 1
        for number, slope in zip(self.values, slopes, strict=True):
            if slope is not None:
                moment, _ = self._moment(number, slope)
                self.slopes[number] = self.slopes.get(number, 0) + moment

    def _moment(self, number: int, value: Tensor) -> tuple[Tensor, int]:
        """Sums x xᵀ over all positions, for the indices that are ranked."""
        read = self.sites[number].read
        mine = torch.from_numpy(self.sites[number].mine).to(value.device)
        table = value.detach().movedim(read.dim % value.ndim, 0)
        table = torch.view_as_real(table) if table.is_complex() else table
        table = table[mine].flatten(1)
        total = torch.zeros(len(table), len(table), dtype=torch.float64, device=value.device)
        for start in range(0, table.shape[1], _ROWS):
            wide = table[:, start : start + _ROWS].double()
            total += wide @ wide.T
        return total.cpu(), table.shape[1]


def _parts(
    sites: Sequence[ReadSite], among: Sequence[Group], moments: _ReadMoments
) -> dict[str, list[_Part]]:
    """Splits the moments of the sites by the groups that they read."""
    ends = np.cumsum([0, *(g.size for g in among)])
    found: dict[str, list[_Part]] = {g.name: [] for g in among}
    for number in moments.slopes:
        owner = sites[number].owners
        for i, group in enumerate(among):
            chosen = np.flatnonzero((owner >= ends[i]) & (owner < ends[i + 1]))
            if not len(chosen):
                continue
            at = torch.from_numpy(chosen)
            inputs = moments.inputs[number][at][:, at] / moments.rows[number]
            slopes = moments.slopes[number][at][:, at] / moments.draws
            channels = torch.from_numpy(owner[chosen] - ends[i])
            found[group.name].append(_Part(channels, inputs, slopes))
    return found


class _Elimination:
    """Updates the moments of one read of a group, as channels are removed."""

    def __init__(self, part: _Part, size: int) -> None:
        # in units of each channel, so that their scales do not matter to the ridge
        scale = part.inputs.diagonal().sqrt()
        scale = torch.where(scale > 0, scale, 1)
        inputs = part.inputs / (scale[:, None] * scale)
        inputs.diagonal().add_(_RIDGE)
        slopes = part.slopes * (scale[:, None] * scale)
        values, vectors = torch.linalg.eigh(slopes)
        self.weights = vectors * values.clamp(min=0).sqrt()  # W
        self.precision = torch.linalg.inv(inputs)  # K
        self.channels = part.channels
        self.size = size

    def raises(self) -> Tensor:
        """Returns by channel what its removal adds to D; several indices as if one by one."""
        each = self.weights.square().sum(1) / self.precision.diagonal()
        return torch.zeros(self.size, dtype=torch.float64).index_add_(0, self.channels, each)

    def remove(self, gone: Tensor) -> None:
        """Removes channels; those that stay take over their linear part."""
        going = torch.isin(self.channels, gone)
        at, stay = going.nonzero().flatten(), (~going).nonzero().flatten()
        across = self.precision[stay][:, at]
        share = torch.linalg.solve(self.precision[at][:, at], across.T).T
        self.weights = self.weights[stay] - share @ self.weights[at]
        self.precision = self.precision[stay][:, stay] - share @ across.T
        self.channels = self.channels[stay]


def _scored(parts: Sequence[_Part], size: int, reduce: Reduce) -> Scores:
    """Removes the channels of one group, the one that raises D least first."""
    reads = [_Elimination(part, size) for part in parts]
    left = torch.ones(size, dtype=torch.bool)
    scores, highest = np.zeros(size), 0.0
    while reads and left.any():
        raises = torch.stack([read.raises() for read in reads])
        total = raises.max(0).values if reduce == "max" else raises.sum(0)
        total = raises[0] if reduce == "first" else total
        order = torch.where(left, total, torch.inf).argsort(stable=True)
        gone = order[: max(1, int(left.sum()) // _AT_ONCE)]
        for channel in gone.tolist():
            # slightly higher, so that the order of the scores is the order of removal
            highest = max(float(total[channel]), highest * (1 + 1e-12))
            scores[channel] = highest
        left[gone] = False
        for read in reads:
            read.remove(gone)
    return np.sqrt(scores)
