"""Recognises weights that are normalised as a whole, in any spelling of torch.

`F.batch_norm(w.reshape(1, o, -1), None, None, training=True)` (weight standardisation),
`F.normalize(w.flatten(1))` and a softmax of a weight are weights again, element by element.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from gfx.ir.interpreter import ancestors
from gfx.ir.ops import argument, norm_places, op_name

__all__ = ["MOVES", "Normalised", "goes_on_learning", "is_placed", "normalised"]

MOVES = frozenset("flatten reshape view unsqueeze squeeze permute transpose t contiguous".split())
_ELEMENTWISE = frozenset(
    "pow square abs mul div neg add sub exp sqrt rsqrt relu sigmoid tanh softplus log clamp "
    "clamp_min clamp_max clone detach float double".split()
)
_NUMBERS = frozenset("size dim getattr getitem numel".split())
_BY_MOMENTS = ("batch_norm", "instance_norm", "layer_norm", "group_norm")


@dataclass(frozen=True)
class Normalised:
    """A weight that is normalised along some dimensions: one number for each index of the others.

    By moments it is (x - mean) / sqrt(var + eps) scale + shift, by norm x / max(norm, eps).
    """

    kind: str  # moments, norm, softmax or log_softmax
    source: fx.Node
    dims: tuple[int, ...]
    number: float = 0.0  # eps
    order: float = 2.0  # of a norm
    vectors: tuple[fx.Node | None, fx.Node | None] = (None, None)  # scale and shift
    first: int = 1  # dimension of the source that the first dimension of these belongs to

    @property
    def reads(self) -> list[fx.Node]:
        """The source, and the vectors that there are."""
        return [self.source, *(v for v in self.vectors if v is not None)]


def normalised(node: fx.Node) -> Normalised | None:
    """Reads a node; None if it normalises nothing as a whole, or in a way that is not followed."""
    name, args = op_name(node), node.args
    source = args[0] if args else node.kwargs.get("input")
    if not isinstance(source, fx.Node) or node.kwargs.get("out") is not None:
        return None
    if name == "normalize":
        dim, order = argument(node, 2, "dim", default=1), argument(node, 1, "p", default=2.0)
        dims = _dims(source, dim if isinstance(dim, tuple | list) else (dim,))
        eps = argument(node, 3, "eps", default=1e-12)
        if dims is None or not isinstance(order, int | float) or order < 1:
            return None
        return Normalised("norm", source, dims, float(eps), float(order))
    if name in ("softmax", "log_softmax"):
        dims = _dims(source, (argument(node, 1, "dim"),))
        plain = not any(isinstance(v, torch.dtype) for v in (*args, *node.kwargs.values()))
        return Normalised(name, source, dims) if dims is not None and plain else None
    return _by_moments(name, node, source) if name in _BY_MOMENTS else None


def _by_moments(name: str, node: fx.Node, source: fx.Node) -> Normalised | None:
    shape, ndim = source.meta["val"].shape, source.meta["val"].ndim
    places, first, dims = {"weight": 2, "bias": 3}, 1, tuple(range(2, ndim))
    if name in ("batch_norm", "instance_norm"):
        places = norm_places(node)
        running = ("running_mean", "running_var")
        if any(argument(node, places[key], key) is not None for key in running):
            return None
        key, otherwise = _TRAINING[name]
        of_itself = argument(node, 5, key, default=otherwise)
        if of_itself is not True or (name == "batch_norm" and ndim < 2):
            return None
        dims = dims if name == "instance_norm" else (0, *dims)
    elif name == "group_norm":
        groups = argument(node, 1, "num_groups", default=0)
        if groups not in (1, shape[1] if ndim > 1 else 0):
            return None
        dims = tuple(range(1, ndim)) if groups == 1 else dims
    else:
        given = argument(node, 1, "normalized_shape", default=())
        first = ndim - (1 if isinstance(given, int) else len(given))
        dims = tuple(range(first, ndim))
    scale, shift = (argument(node, places[key], key) for key in ("weight", "bias"))
    eps = argument(node, 7 if name in _TRAINING else 4, "eps", default=1e-5)
    if not dims or not isinstance(eps, int | float):
        return None
    return Normalised("moments", source, dims, float(eps), vectors=(scale, shift), first=first)


_TRAINING = {"batch_norm": ("training", False), "instance_norm": ("use_input_stats", True)}


def _dims(source: fx.Node, given: tuple[Any, ...] | list[Any]) -> tuple[int, ...] | None:
    ndim = source.meta["val"].ndim
    if not all(type(d) is int for d in given):
        return None
    return tuple(sorted(d % ndim for d in given))


def is_placed(node: fx.Node) -> bool:
    """Whether a node reads a tensor, computes element by element, or moves elements."""
    name = op_name(node)
    if node.op == "get_attr" or name in _ELEMENTWISE | MOVES:
        return True
    return name in _NUMBERS and not isinstance(node.meta["val"], Tensor)


def goes_on_learning(node: fx.Node) -> bool:
    """Whether a weight that is normalised as a whole can be written out for what is left of it."""
    what = normalised(node)
    return what is not None and all(map(is_placed, ancestors(what.reads)))
