"""Reads what a statistic computes: its kind, its dimensions, its order, in any spelling of torch.

`w.norm(dim=1)`, `torch.linalg.vector_norm(w, 2, 1)` and `torch.norm(w, p="fro", dim=1)` are one.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, fx

from gfx.ir.ops import argument, op_name

__all__ = ["Asked", "asked"]

_SIMPLE = {"sum": "sum", "mean": "mean", "logsumexp": "logsumexp", "amax": "amax", "amin": "amin"}
_NORMS = frozenset("norm vector_norm linalg_vector_norm linalg_norm".split())
_MATRIX_NORMS = frozenset(("matrix_norm", "linalg_matrix_norm"))
_SPREADS = {"var": "var", "std": "std", "var_mean": "var", "std_mean": "std"}
_EXTREMES = {"max": "amax", "min": "amin"}


@dataclass(frozen=True)
class Asked:
    """A statistic of one tensor."""

    kind: str  # of `learning_statistics`
    source: fx.Node
    dims: tuple[int, ...]  # from 0, all if none were given
    keepdim: bool = False
    number: float = 0.0  # order of a norm, correction of a variance

    def norm_of_zero(self, whole: Tensor) -> bool:
        """Whether a norm, or a deviation, is 0 somewhere: a root has no gradient there."""
        if self.kind == "norm":
            return bool((whole.abs().sum(self.dims) == 0).any())
        return self.kind == "std" and bool((whole.var(self.dims) == 0).any())


def asked(node: fx.Node) -> Asked | None:
    """Reads a node; None if its statistic is of no kind that can go on learning."""
    found = _read(node)
    while found is not None and found.kind in ("sum", "mean", "amax", "amin"):
        inner = _read(found.source)
        if inner is None or (inner.kind, inner.keepdim) != (found.kind, True):
            break
        if found.kind == "mean" and {*inner.dims} & {*found.dims}:
            break
        dims = tuple(sorted({*inner.dims, *found.dims}))  # a mean of means, as by one dimension
        if not found.keepdim and dims != found.dims:
            break
        found = replace(found, source=inner.source, dims=dims)
    return found


def _read(node: fx.Node) -> Asked | None:
    name, index = op_name(node), None
    if name == "getitem":
        node, index = node.args[0], node.args[1]  # type: ignore[assignment]
        name = op_name(node)
    source = argument(node, 0, "input", "self", "A", "x")
    given = [*node.args[1:], *node.kwargs.values()]
    if not isinstance(source, fx.Node) or any(isinstance(n, fx.Node) for n in given):
        return None
    if any(node.kwargs.get(key) is not None for key in ("dtype", "out")):
        return None
    if index is not None:
        return _of_two(node, name, index, source)
    if name in _SIMPLE:
        return _made(_SIMPLE[name], node, source, 1)
    if name in ("max", "min") and len(node.args) == 1 and len(node.kwargs) == 0:
        return _made(_EXTREMES[name], node, source, 1)
    if name in ("var", "std"):
        return _spread(_SPREADS[name], node, source)
    if name in _NORMS or name in _MATRIX_NORMS:
        return _norm(name, node, source)
    return None


def _made(kind: str, node: fx.Node, source: fx.Node, at: int, number: float = 0.0) -> Asked | None:
    """Reads `dim` at a place, and `keepdim` after it."""
    dims = _dims(argument(node, at, "dim", "axis"), source)
    keepdim = bool(argument(node, at + 1, "keepdim", default=False))
    return None if dims is None else Asked(kind, source, dims, keepdim, number)


def _dims(given: Any, source: fx.Node) -> tuple[int, ...] | None:
    ndim = source.meta["val"].ndim
    if given is None or (isinstance(given, tuple | list) and not given):
        return tuple(range(ndim))
    listed = [given] if isinstance(given, int) else given
    if isinstance(listed, str) or not all(type(d) is int for d in listed):
        return None
    return tuple(sorted(d % ndim for d in listed))


def _of_two(node: fx.Node, name: str, index: Any, source: fx.Node) -> Asked | None:
    if name in ("var_mean", "std_mean") and index in (0, 1):
        found = _spread(_SPREADS[name] if index == 0 else "mean", node, source)
        return found
    if name in _EXTREMES and index in (0, "values"):
        return _made(_EXTREMES[name], node, source, 1)
    return None


def _spread(kind: str, node: fx.Node, source: fx.Node) -> Asked | None:
    """Reads var(dim, unbiased, keepdim), var(unbiased) and var(dim, correction=, keepdim=)."""
    first, unbiased = argument(node, 1, "dim"), argument(node, 2, "unbiased", default=True)
    if isinstance(first, bool):
        first, unbiased = None, first
    correction = node.kwargs.get("correction")
    number = float(bool(unbiased)) if correction is None else correction
    dims = _dims(first, source)
    keepdim = bool(argument(node, 3, "keepdim", default=False))
    if dims is None or not isinstance(number, int | float):
        return None
    return Asked(kind, source, dims, keepdim, float(number))


def _norm(name: str, node: fx.Node, source: fx.Node) -> Asked | None:
    matrix = name in _MATRIX_NORMS
    given = argument(node, 1, "p", "ord", default="fro" if matrix else None)
    dim = argument(node, 2, "dim", default=(-2, -1) if matrix else None)
    order = 2.0 if given in (None, "fro") else given
    if not isinstance(order, int | float) or not 1 <= order <= math.inf:
        return None
    if given not in (None, "fro"):
        several = source.meta["val"].ndim > 1 if dim is None else not isinstance(dim, int)
        if matrix or (name == "linalg_norm" and several):
            return None  # of a matrix, such as its largest singular value
    dims = _dims(dim, source)
    keepdim = bool(argument(node, 3, "keepdim", default=False))
    return None if dims is None else Asked("norm", source, dims, keepdim, float(order))
