"""Which entries of masks are zero: exact numbers of the lowest scores."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["chosen", "chosen_together"]


def chosen(scores: Tensor, share: float) -> Tensor:
    """Returns a mask whose zeros are the lowest scores: round(share · n), never all.

    Shapes: booleans of the scores' shape.

    Example:
        >>> chosen(torch.tensor([3.0, 1.0, 2.0, 4.0]), 0.5)
        tensor([ True, False, False,  True])
        >>> chosen(torch.zeros(3), 0.9)  # of equals the first go
        tensor([False, False,  True])
    """
    flat = scores.flatten()
    return _without(flat, min(round(share * flat.numel()), flat.numel() - 1)).view(scores.shape)


def chosen_together(scores: Sequence[Tensor], share: float) -> list[Tensor]:
    """Returns masks under one threshold: round(share · n) zeros, the highest score of each stays.

    Example:
        >>> chosen_together([torch.tensor([1.0, 2.0]), torch.tensor([5.0, 6.0, 7.0])], 0.4)
        [tensor([False,  True]), tensor([False,  True,  True])]
    """
    rows = []
    for score in scores:
        row = score.flatten().to(scores[0].device).clone()
        rows.append(row.index_fill_(0, row.argmax().view(1), torch.inf))
    every = torch.cat(rows)
    count = min(round(share * every.numel()), every.numel() - len(rows))
    parts = torch.split(_without(every, count), [row.numel() for row in rows])
    pairs = zip(parts, scores, strict=True)
    return [part.view(score.shape).to(score.device) for part, score in pairs]


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
