"""Gradients of a program's own output, projected on random signs (Hutchinson 1990)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfx.costs import cost_of
from gfx.errors import InputError, PreconditionError
from gfx.io.guards import running
from gfx.ir.execute import floating
from gfx.ir.program import Program

__all__ = ["signs_for", "slopes_of", "wide"]

_WORK = 2.5e11  # MACs to spend on all batches together
_MOST_SIGNS, _LEAST_SIGNS = 16, 2  # draws of v for each batch


def signs_for(program: Program, batches: int) -> int:
    """Returns the number of draws of v for each batch: more where the program is small."""
    macs = max(cost_of(program).macs.exact, 1) * batches
    return int(min(max(_WORK / macs - 1, _LEAST_SIGNS), _MOST_SIGNS))


def slopes_of(
    output: Any, leaves: list[Tensor], seed: int, draws: int
) -> Iterator[list[Tensor | None]]:
    """Yields the gradients of vᵀf by the leaves, in units of the output, for a few draws of v.

    Raises: InputError if the output is not finite, PreconditionError if it has no gradient.
    """
    outputs = [f for f in floating(output) if f.requires_grad]
    if not leaves:
        return
    if not outputs:
        raise PreconditionError(
            "no gradient flows from the model's output to its channels: it holds no "
            "floating numbers, or something cuts it off, as .detach() does; use an importance "
            "that needs none, such as l1"
        )
    most = max(f.numel() for f in outputs)
    scales = [_unit(f) * (most / f.numel()) ** 0.5 for f in outputs]
    generator = torch.Generator().manual_seed(seed)
    for draw in range(draws):
        signs = [torch.randint(0, 2, f.shape, generator=generator) * 2 - 1 for f in outputs]
        directions = [
            s.to(f.device, f.dtype) * scale
            for s, f, scale in zip(signs, outputs, scales, strict=True)
        ]
        with running("the backward pass of the model"):
            slopes = torch.autograd.grad(
                outputs, leaves, directions, retain_graph=draw < draws - 1, allow_unused=True
            )
        yield [None if s is None else _checked(s) / most**0.5 for s in slopes]


def _unit(output: Tensor) -> float:
    """Returns 1 / root mean square of an output."""
    values = output.detach().to(wide(output))
    square = float(values.square().mean())
    if not np.isfinite(square):
        raise InputError(
            "the model's output holds values that are not finite, so its channels cannot be "
            "ranked by it; repair the model's weights or the data, or use importance: l1"
        )
    return square**-0.5 if square > 0 else 1.0


def _checked(slope: Tensor) -> Tensor:
    if not bool(torch.isfinite(slope).all()):
        raise InputError(
            "the gradient of the model's output is not finite, so its channels cannot be ranked "
            "by it; use a wider dtype than the model's, or importance: l1"
        )
    return slope


def wide(value: Tensor) -> torch.dtype:
    """Returns the real dtype in which sums of a tensor are accumulated."""
    return torch.float64 if value.dtype in (torch.float64, torch.complex128) else torch.float32
