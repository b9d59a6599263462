"""Labels constants that the graph creates, and attributes of tensors."""

from typing import Any

from gfx.coupling.call import Call
from gfx.coupling.flow import Flow
from gfx.coupling.labelled_tensor import Labeled, channel_dims
from gfx.coupling.rules.elementwise import elementwise
from gfx.coupling.rules.movement import move, unlabelled

__all__ = ["FUNCTIONS"]


def made(flow: Flow, call: Call) -> Labeled:
    """Labels a constant whose content is the same everywhere: it may be made in another size."""
    return flow.made(call.node, channel_dims(call.shape), call.shape)


def positional(flow: Flow, call: Call) -> Any:
    """Makes a constant whose content depends on the position, so that it keeps its size."""
    for value in call.tensors:
        flow.fix(value, f"{call.node.name} depends on its position")
    return unlabelled(call.node.meta["val"], f"{call.node.name} is a constant made by position")


def attribute(flow: Flow, call: Call) -> Any:
    """Reads `x.T`, `x.mT`, `x.data` and the like."""
    x, name = call.args[:2]
    if name in ("T", "mT", "H", "mH"):
        return move(flow, call)
    return elementwise(flow, call) if isinstance(x, Labeled) else getattr(x, name)


FUNCTIONS = {
    **dict.fromkeys(
        "zeros ones full empty rand randn new_zeros new_ones new_full new_empty".split(),
        made,
    ),
    **dict.fromkeys(
        "arange linspace logspace eye one_hot tril_indices triu_indices meshgrid randint "
        "randperm affine_grid tensor as_tensor new_tensor affine_grid_generator".split(),
        positional,
    ),
    "getattr": attribute,
}
