"""Repairs the literals of a graph that meant a channel count.

A model's code may say view(-1, 64, 4, 4), x[:, :32] or chunk(2); once channels are gone these
numbers are wrong. A repair never guesses: it knows what each node's output must become.
"""

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import fx

from gfx.coupling.rules.pointwise import is_pointwise
from gfx.edit.arguments import argument, numbers, put, reads_tensor
from gfx.edit.indexing import narrow, select, slices, subscript
from gfx.edit.sizes import Sizes
from gfx.ops import op_name

__all__ = ["repair", "rms_norm"]

Shape = tuple[int, ...]


def repair(node: fx.Node, sizes: Sizes) -> None:
    """Rewrites the arguments of a node so that its output has the shape foretold.

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


def _entry(node: fx.Node, value: Any, wanted: int, sizes: Sizes) -> Any:
    """Returns one size argument: what it was if that still holds, else what is wanted.

    A computed size stays computed, times the fraction that is left: it may count images too, as
    where a batch is folded into the channels.
    """
    now = sizes.after[value] if isinstance(value, fx.Node) else value
    if now in (wanted, -1):
        return value
    if not isinstance(value, fx.Node):
        return wanted
    share = Fraction(wanted, now)
    with node.graph.inserting_before(node):
        if share.numerator > 1:
            value = node.graph.call_function(operator.mul, (value, share.numerator))
        return node.graph.call_function(operator.floordiv, (value, share.denominator))


def _mean(node: fx.Node, sizes: Sizes) -> None:
    """Corrects a mean over fewer channels: what is gone counts as zero."""
    if any(node is statistic.node for statistic in sizes.flow.statistics):
        return  # it is that of the channels that are left
    value = sizes.flow.values[argument(node, 0, "input")]
    before, after = math.prod(value.shape), math.prod(sizes.shape(value))
    kept = math.prod(sizes.after[node].shape) / math.prod(node.meta["val"].shape)
    share = after / before / kept  # of the positions that each mean is taken over
    if share != 1:
        _scale(node, share, sizes)


def _loss(node: fx.Node, sizes: Sizes) -> None:
    """Corrects a mean distance over fewer channels."""
    if argument(node, 2, "reduction", default="mean") in ("mean", 1):
        _mean(node, sizes)


def _scale(node: fx.Node, factor: float, sizes: Sizes) -> None:
    """Multiplies what a node gives."""
    with node.graph.inserting_after(node):
        scaled = node.graph.call_function(torch.mul, (node, factor))
    sizes.stands_for(scaled, node)
    node.replace_all_uses_with(scaled, delete_user_cb=lambda user: user is not scaled)


def _layer_norm(node: fx.Node, sizes: Sizes) -> None:
    """Repairs the shape that is normalised over."""
    old = argument(node, 1, "normalized_shape")
    if isinstance(old, fx.Node):
        return  # computed from the shape itself
    listed = [old] if isinstance(old, int | fx.Node) else old
    wanted = tuple(sizes.after[node].shape)[-len(listed) :]
    new = [_entry(node, a, b, sizes) for a, b in zip(listed, wanted, strict=True)]
    put(node, 1, new, "normalized_shape")


def rms_norm(node: fx.Node, sizes: Sizes) -> None:
    """Lets the mean of squares read zeros: x / sqrt(s m + eps) = s^-½ x / sqrt(m + eps / s)."""
    x = argument(node, 0, "input")
    before, after = x.meta["val"].shape, tuple(sizes.after[x].shape)
    given: Any = argument(node, 1, "normalized_shape")
    if node.op == "call_module":
        module: Any = sizes.flow.program.submodule(node)
        given = module.normalized_shape
    else:
        _layer_norm(node, sizes)
    dims = len(numbers(given))
    share = math.prod(after[-dims:]) / math.prod(before[-dims:])
    if share == 1:
        return
    least = torch.finfo(x.meta["val"].dtype).eps
    if node.op == "call_function":
        eps = argument(node, 3, "eps")
        put(node, 3, (least if eps is None else eps) / share, "eps")
    elif given != after[-dims:]:  # a module that is called twice is set once
        module.eps = (least if module.eps is None else module.eps) / share
        module.normalized_shape = after[-dims:]
    _scale(node, share**-0.5, sizes)


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
    new = tuple(_entry(node, old, size, sizes) for old, size in zip(given, wanted, strict=True))
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
    value = sizes.flow.values[argument(node, 0, "input")]
    listed = argument(node, 2, "sizes")
    start = argument(node, 1, "dim") % value.ndim
    wanted = tuple(sizes.after[node].shape)[start : start + len(listed)]
    new = tuple(_entry(node, old, size, sizes) for old, size in zip(listed, wanted, strict=True))
    put(node, 2, new, "sizes")


def _split(node: fx.Node, sizes: Sizes) -> None:
    """Turns chunk and split whose parts became unequal into a split by sizes."""
    source, dim = argument(node, 0, "input", "tensor"), argument(node, 2, "dim", default=0)
    lengths = [part.shape[dim] for part in sizes.after[node]]
    if _lengths_now(node, dim, sizes) != lengths:
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
    out = sizes.flow.values[node]
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


def _group_norm(node: fx.Node, sizes: Sizes) -> None:
    """Repairs the number of groups; a group goes as a whole, so their size stays."""
    old = argument(node, 1, "num_groups")
    if node in sizes.flow.regrouped:
        return
    members = sizes.flow.values[argument(node, 0, "input")].shape[1] // numbers(old)
    put(node, 1, _entry(node, old, sizes.after[node].shape[1] // members, sizes), "num_groups")


def _conv_groups(node: fx.Node, sizes: Sizes) -> None:
    """Repairs the groups of a functional depthwise convolution."""
    position = 8 if op_name(node) == "conv" else 6
    source = argument(node, 0, "input")
    old = argument(node, position, "groups")
    if old is None:
        return
    depthwise = numbers(old) == sizes.flow.values[source].shape[1]
    wanted = sizes.after[source].shape[1] if depthwise else numbers(old)
    put(node, position, _entry(node, old, wanted, sizes), "groups")


def _attention(node: fx.Node, sizes: Sizes) -> None:
    """Writes out the scale 1 / sqrt(E), which would change with the width of the heads."""
    query = argument(node, 0, "query")
    before, after = query.meta["val"].shape[-1], sizes.after[query].shape[-1]
    if before != after and node.kwargs.get("scale") is None:
        node.update_kwarg("scale", 1 / math.sqrt(before))


def _sections(node: fx.Node, sizes: Sizes) -> None:
    """Turns hsplit, vsplit and dsplit into a split by sizes."""
    source = argument(node, 0, "input")
    dim = {"hsplit": int(source.meta["val"].dim() > 1), "vsplit": 0, "dsplit": 2}[op_name(node)]
    node.op, node.target = "call_function", torch.split
    node.args = (source, [part.shape[dim] for part in sizes.after[node]])
    node.kwargs = {"dim": dim}


def _roll(node: fx.Node, sizes: Sizes) -> None:
    """Repairs how far channels are rolled: as many come round as are left of those that did."""
    source, shifts, dims = (argument(node, i, n) for i, n in enumerate(("input", "shifts", "dims")))
    value = sizes.flow.values[source]
    if dims is None or dims == ():
        return
    many = isinstance(dims, tuple | list)
    pairs = zip(shifts, dims, strict=True) if many else [(shifts, dims)]
    new = []
    for shift, dim in pairs:
        alive = sizes.alive(value, dim % value.ndim)
        come = numbers(shift) % len(alive)
        new.append(shift if alive.all() else int(alive[len(alive) - come :].sum()))
    put(node, 1, tuple(new) if many else new[0], "shifts")


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
    "roll": _roll,
    "mean": _mean,
    **dict.fromkeys(("mse_loss", "l1_loss"), _loss),
    "unflatten": _unflatten,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "rms_norm": rms_norm,
    "scaled_dot_product_attention": _attention,
    "getitem": subscript,
    "setitem": subscript,
    "slice": slices,
    "narrow": narrow,
    "select": select,
}
