"""Scores channels by their mean absolute value where they are read, on the user's data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from gfx.compression.importance.aggregate import Reduce, Scores, combined, levelled
from gfx.compression.importance.reads import shared, sites_of
from gfx.compression.importance.session import Session, ranking
from gfx.coupling import Group, Groups
from gfx.errors import InputError

__all__ = ["activation"]


def activation(
    groups: Groups,
    among: Sequence[Group],
    reduce: Reduce,
    batches: Sequence[tuple[Any, ...]],
    seed: int,
) -> dict[str, Scores]:
    """Returns the mean |x| of each channel where it is read, each read divided by its mean.

    Raises: InputError if an activation is not finite.
    """
    sites = sites_of(groups, among)
    sums = [np.zeros(len(site.mine)) for site in sites]

    def see(number: int, value: Tensor) -> Tensor:
        dim = sites[number].read.dim % value.ndim
        others = [d for d in range(value.ndim) if d != dim]
        sizes = value.detach().abs()
        sizes = sizes if sizes.dtype.itemsize > 4 else sizes.float()
        mean = sizes.mean(dim=others) if others else sizes
        sums[number] += mean.double().cpu().numpy()
        return value

    session = Session(groups.program, sites, see, seed)
    with ranking(groups.program, "activation", gradients=False):
        session.each(batches, lambda inputs, number: session.run(inputs, {}, number))
    rows: dict[str, list[Scores]] = {g.name: [] for g in among}
    for site, values in zip(sites, sums, strict=True):
        if not np.isfinite(values).all():
            raise InputError(
                f"{site.read.operand.name} is not finite on the data, so its channels cannot be "
                "ranked by it; repair the model's weights or the data, or use importance: l1"
            )
        means = site.by_channel(values) / site.by_channel(np.ones(len(values)))
        whole = np.zeros(sum(g.size for g in among))
        whole[site.numbers] = means
        for name, part in shared(among, whole).items():
            rows[name].append(levelled(part))
    return {g.name: combined(rows[g.name], g.size, reduce) for g in among}
