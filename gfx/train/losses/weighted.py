"""Sums the terms of an objective by weight."""

import torch
from torch import Tensor, nn

from gfx.errors import InputError
from gfx.train.losses.checks import finite, near, numbers, size, wide

__all__ = ["Weighted"]


class Weighted(nn.Module):
    """Sums named terms, each times its weight, and returns them one by one for a log.

    L = Σ_k λ_k L_k

    Shapes: each term is one number; so is the total. The dict has the terms without their weights,
    detached: no GPU synchronisation happens until they are printed.
    Raises: InputError if a term has no weight or the other way round, or is not finite: the error
    names it.

    Example:
        >>> objective = Weighted(gan=1.0, recon=100.0)
        >>> total, terms = objective(gan=torch.tensor(0.5), recon=torch.tensor(0.25))
        >>> float(total), {name: float(value) for name, value in terms.items()}
        (25.5, {'gan': 0.5, 'recon': 0.25})
    """

    checked: bool = True  # wait for one number a call, to know that all terms are finite

    def __init__(self, **weights: float) -> None:
        super().__init__()
        self.weights = numbers("Weighted", "the weight of", weights)

    def forward(self, **terms: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the total, and the terms by name."""
        for name in terms:
            if name not in self.weights:
                raise InputError(f"Weighted: {name!r} has no weight{near(name, self.weights)}")
        for name in self.weights:
            if name not in terms:
                raise InputError(f"Weighted: the term {name!r} is missing{near(name, terms)}")
        for name, value in terms.items():
            if not isinstance(value, Tensor) or value.numel() != 1:
                given = size(value) if isinstance(value, Tensor) else type(value).__name__
                raise InputError(f"Weighted: the term {name!r} is {given}; give one number")
        scaled = [self.weights[name] * wide(value).reshape(()) for name, value in terms.items()]
        total = torch.stack(scaled).sum()
        named = {f"the term {name!r}": value for name, value in terms.items()}
        if self.checked:
            total = finite("Weighted", total, named)
        return total, {name: value.detach() for name, value in terms.items()}

    def extra_repr(self) -> str:
        """Writes the weights."""
        return ", ".join(f"{name}={weight}" for name, weight in self.weights.items())
