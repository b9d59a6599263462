"""Repairs the literals of a graph that depend on a channel count.

A model's code may say view(-1, 64, 4, 4), x[:, :32] or chunk(2); once channels are gone these
numbers are wrong. A repair never guesses: it knows what each node's output must become.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from gfx.coupling.removal.arguments import entry, numbers, put, reads_tensor
from gfx.coupling.removal.new_sizes import Sizes
from gfx.coupling.removal.norm_corrections import (
    attention,
    group_norm,
    layer_norm,
    loss,
    mean,
    rms_norm,
)
from gfx.coupling.removal.slices import narrow, select, slices, subscript
from gfx.coupling.rules.elementwise import is_pointwise
from gfx.ir.ops import argument, op_name

__all__ = ["repair"]

Shape = tuple[int, ...]


def repair(node: fx.Node, sizes: Sizes) -> None:
    """Rewrites the arguments of a node so that its output has the shape in `sizes.after`.

    Raises: EditError if the operation cannot produce it.
    """
    name = op_name(node)
    fix = _FIXES.get(name)
    if fix is not None:
        fix(node, sizes)
    elif is_pointwise(name):
        _keep_numbers(node, sizes)


def _keep_numbers(node: fx.Node, sizes: Sizes) -> None:
    """Keeps a number that was computed from a channel count and is used as a number.

    A scale such as `q.size(1) ** -0.5` belongs to the function, not to the shapes.
    """

    def literal(n: fx.Node) -> Any:
        old = n.meta["val"]
        return old if isinstance(old, int | float) and old != sizes.after[n] else n

    node.args = fx.node.map_arg(node.args, literal)
    node.kwargs = fx.node.map_arg(node.kwargs, literal)


def _rewrite(node: fx.Node, first: int, wanted: Shape, sizes: Sizes) -> None:
    """Rewrites sizes given one by one, as one list, as one node, or by name."""
    name = next((n for n in ("size", "shape", "sizes") if n in node.kwargs), None)
    given: Any = node.kwargs[name] if name else node.args[first:]
    rest: tuple[Any, ...] = ()
    listed = bool(given) and (len(given) == 1 or isinstance(given[0], tuple | list))
    if name is None and listed and not isinstance(given[0], int):
        given, rest = given[0], given[1:]  # then what a constant is filled with
    if isinstance(given, fx.Node):
        now = sizes.after[given]
        if isinstance(now, int) or tuple(now) == wanted:
            return
        given = tuple(now)
    if len(given) != len(wanted) or any(isinstance(n, torch.dtype) for n in given):
        return  # x.view(dtype)
    new = tuple(entry(node, old, size, sizes) for old, size in zip(given, wanted, strict=True))
    if name:
        node.update_kwarg(name, new)
    else:
        node.args = (*node.args[:first], new, *rest)


def _set_sizes(node: fx.Node, sizes: Sizes) -> None:
    """Repairs view, reshape, expand and made constants."""
    _rewrite(node, int(reads_tensor(node)), tuple(sizes.after[node].shape), sizes)


def _repeat(node: fx.Node, sizes: Sizes) -> None:
    """Repairs repeat and tile, whose sizes are multiples of what they read."""
    source = tuple(sizes.after[argument(node, 0, "input")].shape)
    wanted = tuple(sizes.after[node].shape)
    source = (1,) * (len(wanted) - len(source)) + source
    times = tuple(w // s for s, w in zip(source, wanted, strict=True))
    _rewrite(node, 1, times, sizes)


def _unflatten(node: fx.Node, sizes: Sizes) -> None:
    value = sizes.value_of(argument(node, 0, "input"))
    listed = argument(node, 2, "sizes")
    start = argument(node, 1, "dim") % value.ndim
    wanted = tuple(sizes.after[node].shape)[start : start + len(listed)]
    new = tuple(entry(node, old, size, sizes) for old, size in zip(listed, wanted, strict=True))
    put(node, 2, new, "sizes")


def _split(node: fx.Node, sizes: Sizes) -> None:
    """Turns chunk and split whose parts became unequal into a split by sizes."""
    source, dim = argument(node, 0, "input", "tensor"), argument(node, 2, "dim", default=0)
    lengths = [part.shape[dim] for part in sizes.after[node]]
    if sizes.general or _lengths_now(node, dim, sizes) != lengths:
        node.op, node.target = "call_function", torch.split
        node.args, node.kwargs = (source, lengths), {"dim": dim}


def _lengths_now(node: fx.Node, dim: int, sizes: Sizes) -> list[int]:
    """Runs the split as it stands on the narrowed input."""
    args, kwargs = numbers((node.args, node.kwargs), sizes.after)
    target: Any = node.target
    try:
        if node.op == "call_method":
            parts = getattr(args[0], target)(*args[1:], **kwargs)
        else:
            parts = target(*args, **kwargs)
    except RuntimeError:  # sizes that no longer add up
        return []
    return [part.shape[dim] for part in parts]


def _pad(node: fx.Node, sizes: Sizes) -> None:
    """Repairs the number of zero channels that a pad adds."""
    out = sizes.value_of(node)
    listed = list(argument(node, 1, "pad"))
    for d in range(out.ndim):
        i = 2 * (out.ndim - 1 - d)
        if i >= len(listed) or not any(isinstance(n, int) and n > 0 for n in listed[i : i + 2]):
            continue
        alive = sizes.alive(out, d)
        before, after = max(0, listed[i]), max(0, listed[i + 1])
        listed[i] = int(alive[:before].sum()) if before else listed[i]
        listed[i + 1] = int(alive[len(alive) - after :].sum()) if after else listed[i + 1]
    put(node, 1, listed, "pad")


def _conv_groups(node: fx.Node, sizes: Sizes) -> None:
    """Repairs the groups of a functional depthwise convolution."""
    position = 8 if op_name(node) == "conv" else 6
    source = argument(node, 0, "input")
    old = argument(node, position, "groups")
    if old is None:
        return
    depthwise = numbers(old) == sizes.value_of(source).shape[1]
    wanted = sizes.after[source].shape[1] if depthwise else numbers(old)
    put(node, position, entry(node, old, wanted, sizes), "groups")


def _sections(node: fx.Node, sizes: Sizes) -> None:
    """Turns hsplit, vsplit and dsplit into a split by sizes."""
    source = argument(node, 0, "input")
    dim = {"hsplit": int(source.meta["val"].dim() > 1), "vsplit": 0, "dsplit": 2}[op_name(node)]
    node.op, node.target = "call_function", torch.split
    node.args = (source, [part.shape[dim] for part in sizes.after[node]])
    node.kwargs = {"dim": dim}


_FIXES: dict[str, Callable[[fx.Node, Sizes], None]] = {
    **dict.fromkeys(
        "view reshape unsafe_view expand broadcast_to zeros ones full empty rand randn new_zeros "
        "new_ones new_full new_empty".split(),
        _set_sizes,
    ),
    **dict.fromkeys(("repeat", "tile"), _repeat),
    **dict.fromkeys(
        "chunk split split_with_sizes tensor_split unsafe_chunk unsafe_split".split(), _split
    ),
    **dict.fromkeys(
        "conv conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d".split(),
        _conv_groups,
    ),
    **dict.fromkeys(("hsplit", "vsplit", "dsplit"), _sections),
    "mean": mean,
    **dict.fromkeys(("mse_loss", "l1_loss"), loss),
    "unflatten": _unflatten,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "group_norm": group_norm,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "scaled_dot_product_attention": attention,
    "getitem": subscript,
    "setitem": subscript,
    "slice": slices,
    "narrow": narrow,
    "select": select,
}
