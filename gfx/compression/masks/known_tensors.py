"""Holds what is known of values: numbers, with NaN for what depends on the inputs, kept small."""

from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from gfx.ir.interpreter import Get

__all__ = [
    "all_float",
    "fitted",
    "full",
    "is_float",
    "small",
    "unknown",
    "unknown_like",
    "zeros_only",
]


def full(node: fx.Node, get: Get) -> Any:
    """Expands what is known of a node to the node's shape; a size is itself."""

    def expand(value: Any, like: Any) -> Any:
        return value.expand(like.shape).contiguous() if isinstance(value, Tensor) else value

    return pytree.tree_map(expand, get(node), node.meta["val"])


def zeros_only(known: Any) -> Any:
    """Forgets all numbers but zeros."""
    if not isinstance(known, Tensor):
        return known
    return torch.where(known == 0, known, unknown_like(known))


def unknown_like(like: Tensor) -> Tensor:
    """Returns NaN in the type of a tensor; of complex numbers neither part is known."""
    value = complex(torch.nan, torch.nan) if like.is_complex() else torch.nan
    return torch.full([1] * like.ndim, value, dtype=like.dtype, device=like.device)


def all_float(value: Any) -> bool:
    """Whether all in a container are tensors of real or complex numbers."""
    leaves = pytree.tree_leaves(value)
    return all(isinstance(v, Tensor) and is_float(v) for v in leaves)


def is_float(value: Tensor) -> bool:
    """Whether a tensor has real or complex numbers, which may be NaN."""
    return value.is_floating_point() or value.is_complex()


def unknown(node: fx.Node) -> Any:
    """Returns NaN for a tensor of numbers, a size as it is, and None for all else."""
    wanted = node.meta.get("val")
    if not any(isinstance(v, Tensor) for v in pytree.tree_leaves(wanted)):
        return wanted
    if not all_float(wanted):
        return None
    return pytree.tree_map(unknown_like, wanted)


def fitted(found: Any, node: fx.Node) -> Any:
    """Makes what a rule found small; if it does not broadcast to the shape, nothing is known."""
    wanted = node.meta["val"]
    leaves, spec = pytree.tree_flatten(found)
    likes = pytree.tree_leaves(wanted)
    if len(leaves) != len(likes):
        return unknown(node)
    fits = []
    for value, like in zip(leaves, likes, strict=True):
        value = value[(None,) * (like.ndim - value.ndim)]
        if any(n not in (1, m) for n, m in zip(value.shape, like.shape, strict=True)):
            return unknown(node)
        fits.append(small(value))
    return pytree.tree_unflatten(fits, spec)


def small(value: Tensor) -> Tensor:
    """Cuts a tensor to size 1 along the dimensions on which it does not change."""
    for d in range(value.ndim):
        first = value.narrow(d, 0, 1)
        if value.shape[d] > 1:
            a, b = (torch.view_as_real(v) if v.is_complex() else v for v in (value, first))
            same = (a == b) | (a.isnan() & b.isnan())
            value = first if bool(same.all()) else value
    return value
