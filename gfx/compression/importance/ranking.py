"""Ranks channels: one score for each channel of each group, by a chosen importance."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from gfx.compression.importance.activation import activation
from gfx.compression.importance.aggregate import Reduce, Scores, Squashed
from gfx.compression.importance.bn_scale import bn_scale, without_scale
from gfx.compression.importance.reads import gates
from gfx.compression.importance.reconstruction import reconstruction
from gfx.compression.importance.taylor_fisher import fisher, taylor
from gfx.compression.importance.weight_norms import fpgm, lamp, magnitude
from gfx.coupling import Group, Groups
from gfx.errors import PreconditionError
from gfx.io.data import batches_of
from gfx.ir.execute import draw
from gfx.ir.modules import ChannelMask

__all__ = ["Importance", "needs_data", "notes", "rank"]

Importance = Literal[
    "l1",
    "l2",
    "bn_scale",
    "fpgm",
    "lamp",
    "random",
    "activation",
    "taylor",
    "fisher",
    "reconstruction",
]

_POWERS = {"l1": 1, "l2": 2, "lamp": 2}
_BY_RUNNING = {
    "activation": activation,
    "taylor": taylor,
    "fisher": fisher,
    "reconstruction": reconstruction,
}


def needs_data(importance: Importance) -> bool:
    """Returns whether an importance needs the user's data.

    Example:
        >>> needs_data("activation"), needs_data("taylor")
        (True, False)
    """
    return importance == "activation"


def rank(
    groups: Groups,
    among: Sequence[Group],
    importance: Importance,
    *,
    reduce: Reduce = "mean",
    seed: int = 0,
    data: Any = None,
    batches: int = 8,
) -> dict[str, Scores]:
    """Scores the channels of some groups, by group name; the least important has the lowest score.

    A channel is all its slices. Each layer (convolution, linear, embedding) that writes or reads
    it gives a number per channel, and `reduce` combines the layers: their `mean`, `sum`, `max`, or
    the `first` that has a number other than 0. Several slices of a channel in one tensor are added
    up first.

    Masks count: a masked weight as 0, a channel that masks zero wherever it is read as 0.

    By the weights, each layer divided by its mean so that none dominates:

    - l1: Σ|w| (Li et al. 2017, arXiv:1608.08710).
    - l2: √Σw².
    - fpgm: the sum of the distances to the other channels; the least is nearest to the geometric
      median, and the others can stand for it (He et al. 2019, arXiv:1811.00250, eq. 6).
    - lamp: the squared norm over the sum of those not smaller (Lee et al. 2021, arXiv:2010.07611,
      eq. 4), with channels in the place of weights and groups in that of layers.
    - bn_scale: |gamma| of the normalisations of the channel (Liu et al. 2017, arXiv:1708.06519). A
      group without gamma is ranked by l1; `notes` lists these groups.
    - random: uniform in [0, 1).

    By running the model in eval mode, on `batches` batches of the data:

    - activation: mean |x| where the channel is read, each read divided by its mean (Hu et al.
      2016, arXiv:1607.03250, with the mean in the place of the share that is not 0).
    - taylor: the root mean square change of the output, of first order in a gate on all that reads
      the channel (Molchanov et al. 2019, arXiv:1906.10771, squared, with a gate; the coupled
      mask is that of Liu et al. 2021, arXiv:2108.00708).
    - fisher: √Σw²F, with F the diagonal of the Fisher information of the output (LeCun et al.
      1990, Optimal Brain Damage; Theis et al. 2018, arXiv:1801.05787).
    - reconstruction: the root mean square change of the output after the readers of the channel are
      refitted to the channels that stay, as `refit` does; channels are removed one after the other
      (He et al. 2017, arXiv:1707.06168; Luo et al. 2017, arXiv:1707.06342).

    The last three need no labels: their loss is the distance of the output from the program's own
    (gfx/compression/importance/taylor_fisher.py and reconstruction.py derive it). Without data they
    look at noise in the shapes of the example inputs.

    Units, and what `scope: global` compares: l1, l2, fpgm and activation average 1 in each group
    (with `mean`); lamp is 1 for the largest channel of each group; bn_scale is |gamma| over its
    mean in all groups together, as the paper compares it; taylor, fisher and reconstruction are
    changes of the output relative to its root mean square, the same unit everywhere.

    Raises: InputError if a weight, an activation or a gradient is not finite, or the data does not
    suit; PreconditionError if the program has no scales, no values (meta), or no data to look at.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> {name: scores.shape for name, scores in rank(groups, groups.free, "fpgm").items()}
        {'project.conv': (32,), 'up.0.conv': (16,), 'up.1.conv': (8,), 'up.2.conv': (4,)}
    """
    if importance == "random":
        rng = np.random.default_rng(seed)
        return {g.name: rng.random(g.size) for g in among}
    if importance == "bn_scale":
        return _gated(groups, among, bn_scale(groups, among, reduce))
    if importance == "fpgm":
        return _gated(groups, among, {g.name: fpgm(groups, g, reduce) for g in among})
    if importance in _POWERS:
        squashed = Squashed(_POWERS[importance])
        norm = lamp if importance == "lamp" else magnitude
        found = {g.name: norm(groups, g, reduce, squashed) for g in among}
        return _gated(groups, among, found)
    if not among:
        return {}
    with torch.inference_mode(False):
        inputs = _inputs(groups, importance, data, batches, seed)
        return _BY_RUNNING[importance](groups, among, reduce, inputs, seed)


def _gated(groups: Groups, among: Sequence[Group], scores: dict[str, Scores]) -> dict[str, Scores]:
    """Multiplies scores by the factors of masks; importances that run the model include them."""
    if not any(isinstance(m, ChannelMask) for m in groups.program.module.modules()):
        return scores
    factors = gates(groups, among)
    return {name: score * factors[name] for name, score in scores.items()}


def notes(groups: Groups, among: Sequence[Group], importance: Importance) -> dict[str, str]:
    """Lists the groups that are ranked by another importance than the one asked for, and why.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> notes(groups, groups.free, "bn_scale")
        {}
    """
    if importance != "bn_scale":
        return {}
    why = "no normalisation scales it: ranked by l1"
    return dict.fromkeys(without_scale(groups, among), why)


def _inputs(
    groups: Groups, importance: Importance, data: Any, batches: int, seed: int
) -> list[tuple[Any, ...]]:
    """Takes batches from the data, or draws noise where that is enough."""
    program = groups.program
    if data is not None:
        return batches_of(program, data, batches)
    if needs_data(importance):
        raise PreconditionError(
            f"importance={importance} needs data to look at; give data= to gfx.apply"
        )
    return [draw(program, seed + number) for number in range(batches)]
