"""Where activations begin: constants that the graph makes, and attributes of tensors."""

from typing import Any

import torch
from torch import fx

from gfx.coupling.flow import Call, Flow
from gfx.coupling.rules.movement import move, unlabelled
from gfx.coupling.rules.pointwise import elementwise
from gfx.coupling.values import Labeled

__all__ = ["FUNCTIONS"]


def made(flow: Flow, call: Call) -> Labeled:
    """Labels a constant whose content is the same everywhere: it may be made in another size.

    Only sizes written as literals get labels; computed ones follow their source.
    """
    node, shape = call.node, call.shape
    sizes = [a for a in node.args if not _is_tensor(a)] or [node.kwargs.get("size", ())]
    if sizes and isinstance(sizes[0], (tuple, list)):
        sizes = list(sizes[0])
    literal = [d for d, n in enumerate(sizes[: len(shape)]) if isinstance(n, int)]
    return flow.made(node, literal, shape)


def _is_tensor(argument: Any) -> bool:
    return isinstance(argument, fx.Node) and isinstance(argument.meta.get("val"), torch.Tensor)


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
