"""One score for each channel of each group, by a criterion of one's choice."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from gfx.coupling import Group, Groups
from gfx.importance.layers import Reduce, Scores
from gfx.importance.weights import magnitude

__all__ = ["Importance", "needs_data", "rank"]

Importance = Literal["l1", "l2", "random"]


def needs_data(importance: Importance) -> bool:
    """Tells whether an importance cannot do without the user's data.

    Example:
        >>> needs_data("l1")
        False
    """
    return False


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
    """Scores the channels of some groups, by group name; what matters least has the lowest score.

    - l1: mean absolute weight (Li et al. 2017, arXiv:1608.08710).
    - l2: root mean square weight.
    - random: uniform in [0, 1).

    A channel is all its slices: each convolution, linear or embedding that writes or reads it
    gives a norm per channel, divided by that layer's mean so that no layer drowns another, and
    `reduce` brings the layers together. With `mean`, the scores of a group average 1, which makes
    groups comparable.

    Raises: InputError if a weight is not finite.
    """
    rng = np.random.default_rng(seed)
    if importance == "random":
        return {g.name: rng.random(g.size) for g in among}
    power = 1 if importance == "l1" else 2
    return {g.name: magnitude(groups, g, reduce, power) for g in among}
