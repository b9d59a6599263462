"""Gathers what the data says of a unit, and turns it into the change that it asks for."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from gfx.compression.refit.fit_units import NormStatistics, Target
from gfx.compression.refit.normal_equations import NormalEquations
from gfx.compression.refit.paired_runs import PairedRuns
from gfx.compression.refit.stepper import Stepper
from gfx.compression.refit.targets import source
from gfx.compression.refit.unfold import FitLayer
from gfx.errors import PreconditionError

__all__ = ["Gathered", "Sampling", "gather", "shortage", "statistics"]


@dataclass(frozen=True)
class Sampling:
    """How many positions of a layer are looked at."""

    per_unknown: float  # at most as many positions as this times the unknowns; drawn at random
    seed: int

    def choose(
        self, layer: FitLayer, out: tuple[int, ...], share: int, draw: torch.Generator
    ) -> list[Tensor]:
        """Draws positions of each block in one batch, of which there are `share` in all."""
        chosen = []
        for block in layer.blocks:
            count = layer.positions(block, out)
            wanted = self.per_unknown * (layer.unknowns(block) + 1) / share
            size = min(count, max(int(-(-wanted // 1)), 1))
            if size == count:
                chosen.append(torch.arange(count))
            else:
                chosen.append(torch.randperm(count, generator=draw)[:size].sort().values)
        return [c.to(layer.module.weight.device) for c in chosen]


@dataclass(frozen=True)
class Gathered:
    """The normal equations of a layer, and how far its output is from what is wanted."""

    equations: NormalEquations
    gap: float  # ‖wanted - present‖ / ‖wanted‖


def gather(
    calibration: PairedRuns,
    target: Target,
    sampling: Sampling,
    keep: Collection[fx.Node],
    again: NormalEquations | None = None,
    constant: Tensor | None = None,
) -> Gathered:
    """Adds up the normal equations of a layer over the fitting data.

    With `again`, whose left side stays, what the layer falls short of is only what passes the ReLU
    behind it. `constant` is to be added to what the layer gives at present.

    Raises: PreconditionError naming the layer if what it reads or should give is not finite.
    """
    layer = target.layer
    equations = again or NormalEquations(
        layer, layer.module.bias is not None or target.shift is not None
    )
    if again:
        again.again()
    draw = torch.Generator().manual_seed(sampling.seed)
    gap = scale = 0.0
    calls = calibration.batches * len(target.goals)
    for old, new in _pairs(calibration, target, keep):
        nodes = {node for goal in target.goals for node in goal.reads}
        values = new.ahead(nodes)
        for goal in target.goals:
            x, y = values[source(goal.call)], values[goal.call]
            wanted = goal.wanted(calibration.program, values, old.kept[goal.old])
            if target.shift is not None and goal.at is goal.call:
                wanted = wanted + _along(target.shift.drift, y)
            if constant is not None:
                y = values[goal.call] = y + _along(constant, y)
            if again and goal.cut:
                wanted = goal.let_through(calibration.program, values, wanted)
            residual = wanted - y
            out = tuple(layer.outputs_of(residual).shape[:-1])
            equations.add(x, residual, sampling.choose(layer, out, calls, draw))
            gap += float(residual.double().square().sum())
            scale += float(wanted.double().square().sum())
    if not equations.finite() or not gap < float("inf"):
        raise PreconditionError(
            f"the activations at {target.path} are not finite; repair the "
            "weights before it, or leave out the data that does it"
        )
    return Gathered(equations, (gap / scale if scale > 0 else gap) ** 0.5)


def _along(channels: Tensor, like: Tensor) -> Tensor:
    """Shapes one number for each channel so that it broadcasts over an activation."""
    return channels.to(like.dtype).view([1, -1] + [1] * (like.ndim - 2))


def _pairs(
    calibration: PairedRuns, unit: Target | NormStatistics, keep: Collection[fx.Node]
) -> Iterator[tuple[Stepper, Stepper]]:
    place = min(calibration.new.place[goal.call] for goal in unit.goals)
    old_place = max(calibration.old.place[old] for old in unit.olds) + 1
    return calibration.pairs(place, old_place, keep)


def shortage(calibration: PairedRuns, target: Target, equations: NormalEquations) -> str:
    """Says that a layer has more unknowns than the data has positions; "" if it has not."""
    layer = target.layer
    fitted, held = calibration.examples
    for block, count in zip(layer.blocks, equations.counts, strict=True):
        unknowns = layer.unknowns(block) + int(equations.bias)
        if count < unknowns:
            needed = -(-unknowns * fitted // max(count, 1))
            total = -(-needed * (fitted + held) // fitted)
            return (
                f"{unknowns} unknowns for each of its outputs, and the {fitted} examples to fit on "
                f"give {count} positions; give at least {total} examples ({needed} to fit on, the "
                "rest is held out)"
            )
    return ""


def statistics(
    calibration: PairedRuns, norm: NormStatistics, keep: Collection[fx.Node]
) -> tuple[Tensor, Tensor]:
    """Returns the running mean and variance that a norm should have.

    mean = the original's + mean now - mean in the original, on the same data
    var  = the original's · variance now / variance in the original

    so that what has not changed keeps its statistics, whatever data they were taken from.

    Raises: PreconditionError naming the norm if what it reads is not finite.
    """
    sums = [_ChannelMoments(), _ChannelMoments()]  # original, now
    for old, new in _pairs(calibration, norm, keep):
        values = new.ahead({source(goal.call) for goal in norm.goals})
        for goal in norm.goals:
            kept = {1: goal.origin.kept[1]} if 1 in goal.origin.kept else {}
            then = type(goal.origin)(goal.origin.node, kept).of(old.kept[source(goal.old)])
            sums[0].add(then)
            sums[1].add(values[source(goal.call)])
    (mean_then, var_then), (mean_now, var_now) = (moments.end() for moments in sums)
    if not all(bool(torch.isfinite(x).all()) for x in (mean_then, mean_now, var_now)):
        raise PreconditionError(
            f"the activations at {norm.path} are not finite; repair the "
            "weights before it, or leave out the data that does it"
        )
    before = norm.before
    share = torch.where(var_then > 0, var_now / var_then, torch.ones_like(var_now))
    return before[0] + (mean_now - mean_then), before[1] * share


class _ChannelMoments:
    """Sums of a batch's values and their squares, by channel."""

    def __init__(self) -> None:
        self.count = 0
        self.sum: Tensor | float = 0.0
        self.square: Tensor | float = 0.0
        self.around: Tensor | None = None  # near the mean, so that little cancels

    def add(self, x: Tensor) -> None:
        """Adds a batch (N, C, ...)."""
        rows = x.double().movedim(1, -1).flatten(0, -2)
        if self.around is None:
            self.around = rows.mean(0)
        rows = rows - self.around
        self.count += len(rows)
        self.sum = self.sum + rows.sum(0)
        self.square = self.square + rows.square().sum(0)

    def end(self) -> tuple[Tensor, Tensor]:
        """Returns mean and variance."""
        assert self.around is not None
        mean = torch.as_tensor(self.sum) / self.count
        return self.around + mean, torch.as_tensor(self.square) / self.count - mean.square()
