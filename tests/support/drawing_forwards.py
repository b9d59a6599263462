"""Forwards that draw random numbers for each of their channels, in eval mode too."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["DRAWING", "Drawing", "Undrawn"]


def attended(x: Tensor) -> Tensor:
    """Attends with four heads of two channels, and drops out pairs of positions."""
    heads = x.flatten(2).view(x.shape[0], 4, 2, -1).transpose(2, 3)
    found = F.scaled_dot_product_attention(heads, heads, heads, dropout_p=0.3)
    return found.transpose(2, 3).reshape(x.shape)


DRAWING = {
    "dropout": lambda x: F.dropout(x, 0.5),
    "dropout by name": lambda x: F.dropout(input=x, p=0.3, training=True),
    "dropout2d": lambda x: F.dropout2d(x, 0.5),
    "alpha_dropout": lambda x: F.alpha_dropout(x, 0.5, training=True),
    "feature_dropout": lambda x: torch.feature_dropout(x, 0.5, True),
    "rrelu": lambda x: F.rrelu(x - 0.5, training=True),
    "randn_like": lambda x: x + torch.randn_like(x),
    "rand_like times": lambda x: x * torch.rand_like(x),
    "randn by sizes": lambda x: x + torch.randn(x.shape[0], x.size(1), 1, 1, dtype=x.dtype),
    "randn of a shape": lambda x: x + torch.randn(x.shape, dtype=x.dtype),
    "rand of a list": lambda x: x + torch.rand([*x.shape[:2], 1, 1], dtype=x.dtype),
    "literal sizes": lambda x: x + torch.randn(1, 8, 1, 1, dtype=x.dtype),
    "normal_": lambda x: x + torch.empty_like(x).normal_(),
    "written into": lambda x: (x.mul(1.0).uniform_(), x)[1] + x.mul(1.0).uniform_(0.5, 1.5),
    "bernoulli": lambda x: x * torch.bernoulli(torch.sigmoid(x)),
    "normal of two": lambda x: torch.normal(x, x.abs() + 0.1),
    "poisson": lambda x: torch.poisson(x),
    "attention": lambda x: x + attended(x),
    "two draws": lambda x: F.dropout(x, 0.5) + torch.randn_like(x),
    "one map": lambda x: x + torch.randn(x.shape[0], 1, *x.shape[2:], dtype=x.dtype),
    "of the transposed": lambda x: F.dropout(x.transpose(1, 3), 0.5).transpose(1, 3),
    "of pairs": lambda x: F.dropout(x.view(-1, 4, 2, *x.shape[2:]), 0.5).flatten(1, 2),
}


class Drawing(nn.Module):
    """Two convolutions, and numbers drawn between them."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.middle = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 3, 3, padding=1)
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.middle(DRAWING[self.what](torch.relu(self.first(x))))))


_OF_ONE = ("randn_like", "rand_like", "rrelu", "bernoulli", "normal", "poisson")


class Undrawn(TorchFunctionMode):
    """Draws nothing: what is drawn of a value is that value times 0.7, and else it is 0.7."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ("randn", "rand"):
            return torch.full(args[0] if len(args) == 1 else args, 0.7, dtype=named.get("dtype"))
        if name in ("normal_", "uniform_"):
            return args[0].fill_(0.7)
        if name in _OF_ONE or "dropout" in name:
            return (args[0] if args else named["input"]) * 0.7
        if "dropout_p" in named:
            named = {**named, "dropout_p": 0.0}
        return func(*args, **named)
