"""Couples data movement by running the operation itself on the labels.

There is no formula for any operation here, so there is no wrong one.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from gfx.coupling.call import Call
from gfx.coupling.flow import Flow
from gfx.coupling.labelled_tensor import (
    Labeled,
    channel_dims,
    core,
    empty_like,
    expand_constant,
    tensors,
    varying,
)
from gfx.coupling.rules.indexing import picked
from gfx.ir.ops import only_shape

__all__ = [
    "FUNCTIONS",
    "MODULES",
    "getitem",
    "move",
    "runner",
    "unknown",
    "unlabelled",
    "windows",
]


def runner(call: Call) -> Callable[[Tensor], Any]:
    """Returns a function that runs the operation of a call on another tensor."""
    arguments = [_concrete(a) for a in call.args[1:]]
    keywords = {k: _concrete(a) for k, a in call.kwargs.items() if k not in ("input", "self")}
    if call.module is not None:
        return call.module
    if call.name in ("view", "unsafe_view", "reshape") and not _is_dtype(arguments):
        # labels lie in memory in other ways than activations do, so a view may need a copy
        return lambda labels: labels.reshape(*arguments, **_renamed(keywords))
    if call.node.op == "call_method":
        return lambda labels: getattr(labels, str(call.node.target))(*arguments, **keywords)
    target: Any = call.node.target
    return lambda labels: target(labels, *arguments, **keywords)


def _renamed(keywords: dict[str, Any]) -> dict[str, Any]:
    return {"shape" if k == "size" else k: v for k, v in keywords.items()}


def _is_dtype(arguments: list[Any]) -> bool:
    return any(isinstance(a, torch.dtype) for a in arguments)


def _concrete(argument: Any) -> Any:
    """Replaces activations inside an argument by empty tensors of their shape."""
    return fx.node.map_aggregate(argument, lambda a: empty_like(a) if isinstance(a, Labeled) else a)


def move(flow: Flow, call: Call) -> Any:
    """Runs a movement on each field of its input; channels picked out singly are pinned."""
    x = call.args[0] if call.args else call.arg(0, "input")
    others = [v for v in call.tensors if v is not x]
    if others and call.name not in ("view_as", "reshape_as"):
        return unknown(flow, call)
    value = call.node.meta["val"]
    run = runner(call)
    if isinstance(value, (tuple, list)):
        moved = [run(labels) for labels in x.fields]
        return tuple(
            _read_fields(flow, call, x, [out[i] for out in moved], tuple(part.shape))
            for i, part in enumerate(value)
        )
    return _read_fields(flow, call, x, [run(labels) for labels in x.fields], call.shape)


def _read_fields(
    flow: Flow, call: Call, x: Labeled, moved: list[Tensor], shape: tuple[int, ...]
) -> Labeled:
    """Reads the fields of an output off the labels that were moved."""
    sources = {f.untyped_storage().data_ptr(): len(varying(f)) for f in x.fields}
    shaped = only_shape(call.node)
    fields, lost = [], ""
    for source, labels in zip(x.fields, moved, strict=True):
        # a view that splits nothing varies on what it did before
        before = sources.get(labels.untyped_storage().data_ptr(), 0)
        if len(varying(labels)) > before:
            labels = expand_constant(labels)
        picked_out = len(varying(labels)) < len(varying(source))
        if shaped and picked_out:
            continue  # it picks a channel out, and which one does not matter
        one = _one_channel(flow, x, source, labels)
        if picked_out and (one or not varying(labels) or _leaves_one(source, labels)):
            lost = f"{call.node.name} picks it out by its position"
        if varying(labels) and not one:
            fields.append(labels)
        elif labels.numel():
            flow.pin(core(labels).numpy().ravel(), lost)
    return Labeled(shape, tuple(fields), flow.long.first(x.why, lost))


def _one_channel(flow: Flow, x: Labeled, source: Tensor, labels: Tensor) -> bool:
    """Whether a movement leaves one channel of a latent's map, whose positions are then united."""
    place = set(range(1, x.ndim))
    if x.ndim < 4 or x.shape[1] == 1 or core(labels).numel() == core(source).numel():
        return False
    if not place.issubset(flow.over(source)):
        return False
    if labels.ndim == x.ndim - 1:  # select, unbind
        left = _is_one_row(core(source), core(labels))
    else:
        left = labels.ndim == x.ndim and labels.shape[1] == 1
    if left:
        flow.along(x, 1)
    return left


def _is_one_row(source: Tensor, labels: Tensor) -> bool:
    """Whether some labels are all that a source has at one index of dimension 1."""
    rows = source.movedim(1, 0).reshape(source.shape[1], -1)
    if rows.shape[1] != labels.numel():
        return False
    return bool((rows == labels.reshape(1, -1)).all(1).any())


def _leaves_one(source: Tensor, labels: Tensor) -> bool:
    """Whether a movement leaves one index of a dimension, and others of what varies there."""
    if labels.ndim != source.ndim or core(labels).numel() == core(source).numel():
        return False
    return any(labels.shape[d] == 1 for d in varying(source))


def windows(flow: Flow, call: Call) -> Labeled:
    """Cuts windows out of one dimension, whose channels are pinned."""
    x, dim = call.args[0], call.arg(1, "dimension")
    flow.fix(x, f"{call.node.name} cuts windows out of it", [dim])
    out: Labeled = move(flow, call)
    return out


def triangle(flow: Flow, call: Call) -> Labeled:
    """Zeroes one side of a diagonal, whose two dimensions are pinned."""
    x = call.arg(0, "input")
    why = f"{call.node.name} zeroes one side of a diagonal"
    flow.fix(x, why, [-2, -1])
    return flow.keep(x, range(x.ndim), call.shape, why)


def shuffle(flow: Flow, call: Call) -> Labeled:
    """Shuffles channels: every part loses the same ones, else their order would change."""
    x = call.arg(0, "input")
    given: Any = call.module.groups if call.module is not None else call.arg(1, "groups")
    ids = flow.along(x, 1)
    if ids is not None:
        rows = ids.reshape(int(given), -1)
        flow.labels.unite(rows[:1], rows[1:])
    out: Labeled = move(flow, call)
    return out


def stretch(flow: Flow, call: Call) -> Labeled:
    """Expands or repeats; what is the same everywhere may be stretched to another size."""
    x = call.args[0] if call.args else call.arg(0, "input")
    out: Labeled = move(flow, call)
    offset = out.ndim - x.ndim
    fields, whys = list(out.fields), [out.why]
    for d in channel_dims(out.shape):
        if (d >= offset and x.shape[d - offset] > 1) or any(d in varying(f) for f in fields):
            continue
        made = flow.made(call.node, [d], out.shape)
        fields += made.fields
        whys.append(made.why)
    out = Labeled(out.shape, tuple(fields), flow.long.first(*whys))
    return out


def stretch_as(flow: Flow, call: Call) -> Labeled:
    """Expands to the shape of another tensor, whose channels it then has."""
    return flow.meet(call.tensors, call.shape)


def roll(flow: Flow, call: Call) -> Any:
    """Moves what is rolled by a number of positions; the dimensions it rolls keep their size."""
    x = call.args[0] if call.args else call.arg(0, "input")
    given = call.arg(2, "dims")
    dims = [given] if isinstance(given, int) else given
    flow.fix(x, f"{call.node.name} rolls it by a number of positions", dims or None)
    return move(flow, call)


def move_as(flow: Flow, call: Call) -> Labeled:
    """Moves into the shape of another tensor, whose channels it then has."""
    out: Labeled = move(flow, call)
    return flow.meet([out, call.args[1]], out.shape)


def getitem(flow: Flow, call: Call) -> Any:
    """Picks from a tuple, or moves a slice of a tensor."""
    source, index = call.args
    if not isinstance(source, Labeled):
        return source[index]
    return picked(flow, call) if tensors(index) else move(flow, call)


def setitem(flow: Flow, call: Call) -> None:
    """Unites what `x[...] = value` overwrites with what it writes."""
    target, index, value = call.args
    if isinstance(value, Labeled):
        fields = [labels[index] for labels in target.fields]
        shape = tuple(empty_like(target)[index].shape)
        part = _read_fields(flow, call, target, fields, shape)
        flow.meet([part, value], shape)


def unknown(flow: Flow, call: Call, why: str | None = None) -> Any:
    """Pins every channel that enters an operation gfx has no rule for."""
    name = call.name or str(call.node.target)
    if call.module is not None:
        name = f"{type(call.module).__name__} {call.node.target}"
    why = why or f"it passes through {name}, whose effect on channels gfx does not know"
    for value in call.tensors:
        flow.fix(value, why)
    return unlabelled(call.node.meta["val"], why)


def unlabelled(value: Any, why: str) -> Any:
    """Replaces every tensor of a node's value by an activation without labels."""
    if isinstance(value, tuple | list):
        return tuple(unlabelled(v, why) for v in value)
    if isinstance(value, dict):
        return {key: unlabelled(v, why) for key, v in value.items()}
    return Labeled(tuple(value.shape), (), why) if isinstance(value, Tensor) else value


_MOVES = (
    "view reshape unsafe_view permute transpose t adjoint mT numpy_T matrix_H flatten unflatten "
    "ravel squeeze unsqueeze repeat_interleave narrow "
    "select slice chunk split split_with_sizes tensor_split hsplit vsplit dsplit unbind flip "
    "fliplr flipud rot90 movedim diagonal unsafe_chunk "
    "unsafe_split view_copy permute_copy narrow_copy"
).split()
FUNCTIONS = {
    **dict.fromkeys(_MOVES, move),
    **dict.fromkeys(("expand", "broadcast_to", "repeat", "tile"), stretch),
    "expand_as": stretch_as,
    **dict.fromkeys(("view_as", "reshape_as"), move_as),
    **dict.fromkeys(("tril", "triu"), triangle),
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), shuffle),
    "roll": roll,
    "getitem": getitem,
    "setitem": setitem,
}
MODULES = {nn.Flatten: move, nn.Unflatten: move, nn.ChannelShuffle: shuffle}
