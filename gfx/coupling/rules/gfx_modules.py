"""Couples gfx's own layers: masks go with their channels, taps and penalties change nothing.

An entry of a mask is one channel with the positions that it multiplies, so that it goes with them.
"""

from typing import Any

import numpy as np
from torch import Tensor, fx

from gfx.coupling.call import Call
from gfx.coupling.flow import Flow
from gfx.coupling.labelled_tensor import Labeled
from gfx.coupling.labels import Ids
from gfx.coupling.rules import convolution as contraction
from gfx.coupling.rules.elementwise import elementwise
from gfx.errors import InputError
from gfx.ir.modules import ChannelMask, ChoiceLayer, MaskedLayer, Penalty, SizeRules, Tap
from gfx.ir.program import Program

__all__ = ["MODULES", "period", "positions"]


def positions(program: Program, node: fx.Node) -> Tensor | None:
    """Returns the `index` that a mask is called with, or None if it has none.

    Raises: TypeError if it is computed, and not a tensor of the program, or has no values;
        InputError if something wrote over it.
    """
    index = node.args[2] if len(node.args) > 2 else node.kwargs.get("index")
    if index is None:
        return None
    if not isinstance(index, fx.Node) or index.op != "get_attr":
        raise TypeError("the index of a mask is no tensor of the program")
    found = program.tensor(str(index.target))
    if found.is_meta:
        raise TypeError("the index of a mask is on the meta device, without values")
    mask, name = program.submodule(node), str(index.target).rpartition(".")[2]
    moved = mask.spoiled(name) if isinstance(mask, ChannelMask) else 0
    if moved:
        raise InputError(
            f"{index.target} says where the channels of a mask are, and {moved} of its "
            f"{len(found)} entries are not what they were, as after an average (EMA) over buffers "
            "of integers; copy buffers that are not floating from the trained model instead"
        )
    return found


def period(classes: Ids) -> int:
    """Returns after how many positions the channels of a place repeat: a batch may be folded in.

    Example:
        >>> period(np.array([0, 1, 1, 0, 1, 1])), period(np.array([0, 1, 0]))
        (3, 3)
    """
    size = len(classes)
    for n in range(1, size // 2 + 1):
        if size % n == 0 and (classes.reshape(-1, n) == classes[:n]).all():
            return n
    return size


def _repeated(numbers: Any, ids: Ids | None) -> Any:
    """Repeats the entries of a mask or its index until they cover every position."""
    if numbers is None or ids is None or len(numbers) >= len(ids):
        return numbers
    return np.tile(numbers, len(ids) // len(numbers))


def channel_mask(flow: Flow, call: Call) -> Labeled:
    """Unites each entry of a mask with the positions that it multiplies."""
    x: Labeled = call.arg(0, "x")
    ids = flow.along(x, call.arg(1, "dim", 1))
    index = positions(flow.program, call.node)
    if index is not None:
        held = call.arg(2, "index")
        flow.connect((ids, x.why), (_repeated(flow.along(held, 0), ids), held.why))
    for name in ("mask", "m"):
        entries = flow.member(call, name)
        if entries is not None:
            _entries(flow, ids, flow.along(entries, 0), index, x.why)
    return flow.meet([x], call.shape)


def _entries(
    flow: Flow, ids: Ids | None, entries: Ids | None, index: Tensor | None, why: str
) -> None:
    if index is None or ids is None or entries is None:
        flow.connect((ids if index is None else None, why), (_repeated(entries, ids), ""))
        return
    numbers = _repeated(index.cpu().numpy(), ids)
    mine = numbers >= 0  # -1: a channel of another group
    flow.labels.unite(ids[mine], entries[numbers[mine]])


def masked_layer(flow: Flow, call: Call) -> Labeled:
    """Couples a layer as its plain class is, and its mask to its weight."""
    weight, mask = flow.member(call, "weight"), flow.member(call, "mask")
    assert weight is not None
    assert mask is not None
    for dim in (0, 1):
        flow.connect((flow.along(weight, dim), weight.why), (flow.along(mask, dim), mask.why))
    kinds = type(call.module).__mro__
    rule = next(contraction.MODULES[kind] for kind in kinds if kind in contraction.MODULES)
    found: Labeled = rule(flow, call)
    return found


def size_rules(flow: Flow, call: Call) -> None:
    """Couples nothing: sizes are read, and nothing is returned."""


MODULES: dict[Any, Any] = {
    ChannelMask: channel_mask,
    ChoiceLayer: elementwise,
    MaskedLayer: masked_layer,
    Penalty: elementwise,
    SizeRules: size_rules,
    Tap: elementwise,
}
