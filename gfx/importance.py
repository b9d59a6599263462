"""How much each channel of a group matters, by its weights."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gfx.coupling import Group, Groups, Member
from gfx.errors import InputError

__all__ = ["Importance", "scores"]

Importance = Literal["l1", "l2", "random"]
Scores = NDArray[np.float64]


def scores(
    groups: Groups, group: Group, importance: Importance, rng: np.random.Generator
) -> Scores:
    """Scores the channels of a group; the least important has the lowest score.

    - l1: mean absolute weight (Li et al. 2017, arXiv:1608.08710).
    - l2: root mean square weight.
    - random: uniform in [0, 1).

    A channel is all its slices: each convolution, linear or embedding that writes or reads it
    gives a norm per channel, divided by that layer's mean so that no layer drowns another, and the
    norms are averaged over the layers. The scores of a group average 1, which makes groups
    comparable.

    Raises: InputError if a weight is not finite.
    """
    if importance == "random":
        return rng.random(group.size)
    weights = [m for m in group.members if (m.tensor, m.dim) in groups.flow.roles]
    total = np.zeros(group.size)
    count = 0
    for member in weights or group.members:
        value = groups.flow.program.tensor(member.tensor)
        if not isinstance(value, nn.Parameter) or not value.is_floating_point() or value.is_meta:
            continue
        norm = _norms(member, value.detach(), group.size, importance)
        if not np.isfinite(norm).all():
            raise InputError(
                f"{member.tensor} holds values that are not finite, so its channels cannot be "
                "ranked; repair the model's weights, or use importance: random"
            )
        if norm.any():
            total += norm / norm.mean()
            count += 1
    return total / max(count, 1)


def _norms(member: Member, value: Tensor, size: int, importance: Importance) -> Scores:
    """Sums |w| or w² over the slices of one dimension, channel by channel."""
    power = 1 if importance == "l1" else 2
    others = [d for d in range(value.ndim) if d != member.dim]
    value = value if value.dtype == torch.float64 else value.float()
    norms = torch.linalg.vector_norm(value, ord=power, dim=others) if others else value.abs()
    sums = norms.cpu().numpy().astype(np.float64) ** power
    per_channel = np.zeros(size)
    np.add.at(per_channel, member.channel, sums[member.index])
    return per_channel if importance == "l1" else np.sqrt(per_channel)
