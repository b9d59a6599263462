"""Forwards that go by the rank of an input, or by the keys and the order of a dictionary."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["KEYED", "RANKED"]


def adds_a_batch(net: Any, x: Tensor) -> Tensor:
    return net.run(x.unsqueeze(0))[0] * 2 if x.dim() == 3 else net.run(x)


def counts_dimensions(net: Any, x: Tensor) -> Tensor:
    return torch.tanh(x) * len(x.shape)


def centres(net: Any, x: Tensor) -> Tensor:
    return x - x.mean(tuple(range(1, x.dim())), keepdim=True)


def multiplies(net: Any, x: Tensor) -> Tensor:
    return torch.tanh(x) * x.ndim


def unpacks_a_shape(net: Any, x: Tensor) -> Tensor:
    _, _, h, _ = x.shape
    return torch.tanh(x) * h


def unpacks_sizes(net: Any, x: Tensor) -> Tensor:
    _, _, h, _ = torch.tanh(x).size()
    return x * h


def unpacks_the_last(net: Any, x: Tensor) -> Tensor:
    h, w = x.shape[2:]
    return x * h + w


def unpacks_two(net: Any, x: Tensor) -> Tensor:
    h, w = x.shape[-2:]
    return x * h + w


def sums(net: Any, batch: dict[str, Tensor]) -> Tensor:
    return net.run(sum(batch.values()))


def weighs(net: Any, batch: dict[str, Tensor]) -> Tensor:
    return net.run(batch["a"]) * sum(v.mean() * i for i, v in enumerate(batch.values()))


def gets(net: Any, batch: dict[str, Tensor]) -> Tensor:
    mask = batch.get("mask")
    return net.run(batch["a"]) * (1 if mask is None else mask)


def asks_for(net: Any, batch: dict[str, Tensor]) -> Tensor:
    return net.run(batch["a"]) * (2 if "mask" in batch else 1)


def _named(*forwards: Any) -> dict[str, Any]:
    return {forward.__name__: forward for forward in forwards}


RANKED = _named(
    *(adds_a_batch, counts_dimensions, centres, multiplies, unpacks_a_shape, unpacks_sizes),
    *(unpacks_the_last, unpacks_two),
)
KEYED = _named(sums, weighs, gets, asks_for)
