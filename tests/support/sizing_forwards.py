"""Forwards that count pieces, assert sizes of activations, or branch by them.

They stand here, as pytest rewrites the assertions of test files.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["ACTIVATIONS", "BRANCHES", "PIECES"]


def splits(net: Any, x: Tensor) -> Tensor:
    a, b = x.split(8, -1)
    return net.run(a + b)


def splits_function(net: Any, x: Tensor) -> Tensor:
    a, b = torch.split(x, 8, dim=3)
    return net.run(a) + b


def splits_by_name(net: Any, x: Tensor) -> Tensor:
    a, b = torch.split(tensor=x, split_size_or_sections=8, dim=-1)
    return net.run(a) * b


def splits_activation(net: Any, x: Tensor) -> Tensor:
    a, b = F.avg_pool2d(net.run(x), 2).split(4, -1)
    return a + b


def splits_by_a_size(net: Any, x: Tensor) -> Tensor:
    a, b = net.run(x).split(x.shape[2] // 2, 2)
    return a + b


def chunks(net: Any, x: Tensor) -> Tensor:
    a, b, c, d = x.chunk(4, -1)
    return net.run(a + b + c) + d


def chunks_activation(net: Any, x: Tensor) -> Tensor:
    a, b, c = torch.chunk(F.max_pool2d(net.run(x), 2), 3, 3)
    return torch.cat([a, c, b], 3)


def unbinds(net: Any, x: Tensor) -> Tensor:
    a, b = net.run(x).unbind(0)
    return a - b


def unpacks(net: Any, x: Tensor) -> Tensor:
    a, b = net.run(x)
    return a - b


def rests(net: Any, x: Tensor) -> Tensor:
    a, *rest = net.run(x).split(8, -1)
    return a + sum(part.mean() for part in rest)


def iterates(net: Any, x: Tensor) -> Tensor:
    total: Any = 0
    for t in net.run(x):
        total = total + t.mean() * t
    return total


def zips(net: Any, x: Tensor) -> Tensor:
    total: Any = 0
    for s, t in zip(x.chunk(2, 0), net.run(x).chunk(2, 0), strict=False):
        total = total + s.mean() * t.mean()
    return x * total


def nested(net: Any, x: Tensor) -> Tensor:
    (a, b), c = net.run(x).split(2, 0)[0], x
    return c + a - b


def asserts_pooled(net: Any, x: Tensor) -> Tensor:
    h = F.avg_pool2d(net.run(x), 2)
    assert h.shape[-1] % 4 == 0, "the width must be a multiple of 4 after pooling"
    return h.reshape(h.shape[0], -1, 4).mean(1)


def asserts_limit(net: Any, x: Tensor) -> Tensor:
    h = F.max_pool2d(net.run(x), 2)
    assert h.size(2) <= 12
    return h


def asserts_two(net: Any, x: Tensor) -> Tensor:
    h = net.run(x)[..., ::2]
    assert h.shape[3] == F.avg_pool2d(x, 2).shape[3]
    return h


def asserts_shape(net: Any, x: Tensor) -> Tensor:
    h = F.avg_pool2d(net.run(x), 2, ceil_mode=True)
    _, _, height, width = h.shape
    assert height == width
    return h


def asserts_by_torch(net: Any, x: Tensor) -> Tensor:
    h = F.avg_pool2d(net.run(x), 2)
    torch._assert(h.shape[2] % 4 == 0, "the height must be a multiple of 4 after pooling")
    return h


def asserts_input_by_torch(net: Any, x: Tensor) -> Tensor:
    torch._assert(x.shape[2] == 16, "the height must be 16")
    return net.run(x)


def checks_by_torch(net: Any, x: Tensor) -> Tensor:
    h = F.avg_pool2d(net.run(x), 2)
    torch._check(h.shape[2] % 4 == 0, lambda: "the height must be a multiple of 4")
    return h


def asserts_rank(net: Any, x: Tensor) -> Tensor:
    h = torch.tanh(x)
    assert h.dim() == 4
    return h * 2


def asserts_elements(net: Any, x: Tensor) -> Tensor:
    h = net.run(x)
    assert h[0].numel() <= 3 * 16 * 16
    return h


def pads(net: Any, x: Tensor) -> Tensor:
    h = F.interpolate(F.avg_pool2d(net.run(x), 2), scale_factor=2.0)
    if h.shape[-1] != x.shape[-1]:
        h = F.pad(h, (0, x.shape[-1] - h.shape[-1]))
    return h.mean((2, 3))


def crops(net: Any, x: Tensor) -> Tensor:
    h = net.run(F.pad(x, (0, 1)))
    if h.shape[-1] > 17:
        h = h[..., :-1]
    return h


def raises(net: Any, x: Tensor) -> Tensor:
    h = F.avg_pool2d(net.run(x), 2)
    if h.shape[-1] % 4:
        raise ValueError("the width must be a multiple of 4 after pooling")
    return h


def repeats(net: Any, x: Tensor) -> Tensor:
    h = net.run(x)
    while h.shape[-1] > 4:
        h = F.avg_pool2d(h, 2)
    return h


def broadcasts(net: Any, x: Tensor) -> Tensor:
    h = net.run(x)
    weight = net.layer.bias.view(1, 3, 1, 1)
    if h.shape[0] != weight.shape[0]:
        weight = weight.expand(h.shape[0], -1, -1, -1) * 2
    return h + weight


def _named(*forwards: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    return {forward.__name__: forward for forward in forwards}


PIECES = _named(
    *(splits, splits_function, splits_by_name, splits_activation, splits_by_a_size, chunks),
    *(chunks_activation, unbinds, unpacks, rests, iterates, zips, nested),
)
ACTIVATIONS = _named(
    *(asserts_pooled, asserts_limit, asserts_two, asserts_shape, asserts_by_torch),
    *(asserts_input_by_torch, checks_by_torch, asserts_rank, asserts_elements),
)
BRANCHES = _named(pads, crops, raises, repeats, broadcasts)
