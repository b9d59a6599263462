"""Forwards that assert: here, as pytest rewrites the assertions of test files."""

from typing import Any

from torch import Tensor

__all__ = ["asserts_both", "asserts_height", "asserts_square", "asserts_values"]


def asserts_height(net: Any, x: Tensor) -> Tensor:
    assert x.shape[2] % 8 == 0, "the height must be a multiple of 8"
    return net.run(x)


def asserts_both(net: Any, x: Tensor) -> Tensor:
    _, _, height, width = x.size()
    assert height % 8 == 0 and width >= 2 * 8  # noqa: PT018 - as people write it
    return net.run(x)


def asserts_square(net: Any, x: Tensor) -> Tensor:
    assert x.dim() == 4
    assert x.size(2) == x.size(-1)
    return net.run(x)


def asserts_values(net: Any, x: Tensor) -> Tensor:
    assert x.min() >= 0
    return net.run(x)
