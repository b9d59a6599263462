"""Computes penalties on weights: as terms of a loss, and as proximal steps."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gfx.errors import InputError
from gfx.train.schedule.find_masks import Penalised

__all__ = ["penalty_term", "shrink", "soft_threshold"]


def penalty_term(weight: Tensor, strength: float, *, mean: bool = False) -> Tensor:
    """Returns strength · Σ|w|, or the mean in the place of the sum, in float32 or wider.

    Shapes: 0-dimensional.

    Source: Liu et al. 2017, arXiv:1708.06519, equation 1 (the sum); the mean, of PPCD's masks, is
    reconstructed.

    Example:
        >>> penalty_term(torch.tensor([1.0, -3.0]), 0.5), penalty_term(torch.ones(4), 2, mean=True)
        (tensor(2.), tensor(2.))
    """
    wide = torch.promote_types(weight.dtype, torch.float32)
    size = weight.to(wide).abs()
    return strength * (size.mean() if mean else size.sum())


def soft_threshold(weight: Tensor, by: float) -> Tensor:
    """Returns sign(w) · max(|w| - by, 0).

    Source: Wang et al. 2020, arXiv:2008.11062 (the proximal operator of an L1 norm).

    Example:
        >>> soft_threshold(torch.tensor([0.5, -0.25, 0.125]), 0.25)
        tensor([0.2500, -0.0000, 0.0000])
    """
    return weight.sign() * (weight.abs() - by).clamp_min(0)


@torch.no_grad()
def shrink(penalised: Sequence[Penalised], optimizer: Any, *, dry: bool = False) -> None:
    """Shrinks weights by strength times the current learning rate of their optimizer.

    Raises: InputError if there is no optimizer, or it does not train a weight; with `dry` it only
    checks this.
    """
    if not penalised:
        return
    groups = getattr(optimizer, "param_groups", None)
    if groups is None:
        raise InputError(
            f"{penalised[0].name} is proximal: it shrinks weights by strength times the learning "
            "rate; give the optimizer, gfx.schedule(model, optimizer)"
        )
    rates = {id(weight): group["lr"] for group in groups for weight in group["params"]}
    for each in penalised:
        weight = each.weight.value
        if id(weight) not in rates:
            raise InputError(
                f"{each.weight.name} is under a proximal penalty, and the optimizer does not train "
                "it; give its optimizer, made of the parameters of the masked model"
            )
        if not dry:
            weight.copy_(soft_threshold(weight, each.penalty.strength * float(rates[id(weight)])))
