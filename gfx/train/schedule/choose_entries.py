"""Chooses the mask entries that become zero: an exact number of the lowest scores."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["chosen", "chosen_together", "two_of_four"]


def chosen(scores: Tensor, share: float, least: int = 1) -> Tensor:
    """Returns a mask whose zeros are the lowest scores: round(share · n), but `least` stay.

    Shapes: booleans of the scores' shape.

    Example:
        >>> chosen(torch.tensor([3.0, 1.0, 2.0, 4.0]), 0.5)
        tensor([ True, False, False,  True])
        >>> chosen(torch.zeros(3), 0.9)  # of equals the first go
        tensor([False, False,  True])
    """
    flat = scores.flatten()
    return _without(flat, min(round(share * flat.numel()), flat.numel() - least)).view(scores.shape)


def chosen_together(
    scores: Sequence[Tensor], share: float, least: Sequence[int] | None = None
) -> list[Tensor]:
    """Returns masks under one threshold: round(share · n) zeros, the highest scores of each stay.

    `least` says how many stay of each; None: one.

    Example:
        >>> chosen_together([torch.tensor([1.0, 2.0]), torch.tensor([5.0, 6.0, 7.0])], 0.4)
        [tensor([False,  True]), tensor([False,  True,  True])]
    """
    rows, stay = [], least or [1] * len(scores)
    for score, count in zip(scores, stay, strict=True):
        row = score.flatten().to(scores[0].device).clone()
        best = row.argsort(descending=True, stable=True)[:count]
        rows.append(row.index_fill_(0, best, torch.inf))
    every = torch.cat(rows)
    count = min(round(share * every.numel()), int((every < torch.inf).sum()))
    parts = torch.split(_without(every, count), [row.numel() for row in rows])
    pairs = zip(parts, scores, strict=True)
    return [part.view(score.shape).to(score.device) for part, score in pairs]


def two_of_four(scores: Tensor, dim: int) -> Tensor:
    """Returns scores that are infinite for the two highest of each four neighbours.

    Of equals the later count as higher.

    Shapes: those of the scores, whose size along `dim` is a multiple of 4.

    Example:
        >>> two_of_four(torch.tensor([3.0, 1.0, 2.0, 4.0, 1.0, 1.0, 1.0, 1.0]), 0)
        tensor([inf, 1., 2., inf, 1., 1., inf, inf])
    """
    parts = torch.unflatten(scores, dim, (-1, 4)).unbind(dim + 1)
    found = []
    for i, mine in enumerate(parts):
        lower = [other <= mine if j < i else other < mine for j, other in enumerate(parts)]
        rank = torch.stack(lower).sum(0)
        found.append(mine.masked_fill(rank > 1, torch.inf))
    return torch.stack(found, dim + 1).flatten(dim, dim + 1)


def _without(scores: Tensor, count: int) -> Tensor:
    """Returns which scores are not among the `count` lowest; of equals the first are."""
    if count <= 0:
        return torch.ones_like(scores, dtype=torch.bool)
    limit = _lowest(scores, count)
    keep = scores >= limit
    equals = (scores == limit).nonzero().flatten()
    return keep.index_fill(0, equals[: count - int((~keep).sum())], False)


def _lowest(scores: Tensor, count: int) -> Tensor:
    """Returns the score of which there are `count` that are not higher, if all differ."""
    if scores.device.type != "cpu":
        return scores.kthvalue(count).values
    place = count - 1
    values = np.partition(scores.numpy(), place)  # at a quarter of what kthvalue takes there
    return torch.from_numpy(values[place : place + 1])[0]
