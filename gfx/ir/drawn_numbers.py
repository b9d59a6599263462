"""Finds the nodes that draw random numbers, and lets two programs draw the same ones.

Before   y = dropout(x)                        x has 16 channels; that of a narrower program has 8
After    y = widened(dropout(part(x)))         what it draws is what the narrower one draws

What is gone is 1, not 0: whoever still reads it is found out.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from gfx.ir.node_origin import Indices, Origin, origin
from gfx.ir.ops import argument, is_inplace, op_name
from gfx.ir.program import Program

__all__ = ["drawing_as", "draws"]

_DRAWS = frozenset(
    "rand randn rand_like randn_like randint randint_like randperm bernoulli normal uniform "
    "poisson multinomial random exponential geometric cauchy log_normal gumbel_softmax".split()
)
_ATTENTION = "scaled_dot_product_attention"
_SIZES = ("rand", "randn")  # they are given sizes, no tensor


def draws(node: fx.Node) -> bool:
    """Whether a call of a function or a method draws random numbers, in eval mode too.

    Example:
        >>> import torch.nn.functional as F
        >>> graph = fx.Graph()
        >>> x = graph.placeholder("x")
        >>> [draws(graph.call_function(F.dropout, (x, 0.5, on))) for on in (True, False)]
        [True, False]
    """
    name = op_name(node)
    if "dropout" in name:
        chance = argument(node, 1, "p", default=0.5)
        return bool(argument(node, 2, "training", "train", default=True) and chance != 0)
    if name == "rrelu":
        return bool(argument(node, 3, "training", default=False))
    if name == _ATTENTION:
        return bool(argument(node, 4, "dropout_p", default=0.0) != 0)
    return name in _DRAWS


def drawing_as(narrow: Program, wide: Program) -> Program:
    """Returns a wide program that draws for the channels that a narrow one has left, as that does.

    Where it draws for others, numbers are 1. The result is `wide` where nothing is drawn, or as
    many numbers.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> drawing_as(program, program) is program
        True
    """
    found = [origin(node) for node in filter(draws, narrow.nodes())]
    drawn = {each.node: each for each in found if each is not None}
    parts = {n.name: part for n in filter(draws, wide.nodes()) if (part := _part(n, drawn))}
    if not parts:
        return wide
    copy = wide.copy(on_write=True)
    for node in copy.nodes():
        if node.name in parts:
            _draw_part(node, parts[node.name])
    copy.recompile()
    return copy


def _part(node: fx.Node, drawn: Mapping[str, Origin]) -> dict[int, Indices]:
    """Lists by dimension the present indices of a node that are left in the narrow program."""
    own = origin(node)
    if own is None or own.node not in drawn:
        return {}
    found = {}
    for dim, left in drawn[own.node].kept.items():
        here = own.kept.get(dim)
        at = left if here is None else tuple(here.index(i) for i in left if i in here)
        if len(at) < (node.meta["val"].shape[dim] if here is None else len(here)):
            found[dim] = at
    return found


def _draw_part(node: fx.Node, part: Mapping[int, Indices]) -> None:
    """Makes a node draw for some indices, and puts ones at the others."""
    graph, shape = node.graph, tuple(node.meta["val"].shape)
    if op_name(node) == _ATTENTION:  # numbers are drawn for pairs of positions
        part = {dim: indices for dim, indices in part.items() if dim < len(shape) - 1}
    given = [n for n in node.all_input_nodes if isinstance(n.meta.get("val"), Tensor)]
    target = given[0] if given and is_inplace(node) else None
    with graph.inserting_before(node):
        for operand in given:
            cut = operand
            of_operand = operand.meta["val"].shape
            for dim, indices in part.items():
                place = dim - len(shape) + len(of_operand)  # operands are broadcast
                if place >= 0 and of_operand[place] == shape[dim]:
                    cut = graph.call_function(_selected, (cut, place, indices))
            if cut is not operand:
                node.replace_input_with(operand, cut)
        if op_name(node) in _SIZES:
            node.args, node.kwargs = _fewer(graph, node, part)
    after, users = node, list(node.users)
    for dim, indices in part.items():
        with graph.inserting_after(after):
            after = graph.call_function(_widened, (after, dim, indices, shape[dim]))
    if target is not None:  # others may read what is written into
        with graph.inserting_after(after):
            after = graph.call_method("copy_", (target, after))
    for user in users:
        user.replace_input_with(node, after)


def _fewer(graph: fx.Graph, node: fx.Node, part: Mapping[int, Indices]) -> tuple[Any, Any]:
    """Writes the sizes of what is drawn from nothing: one by one, as one list, or by name."""
    counts = tuple((dim, len(indices)) for dim, indices in part.items())
    name = next((n for n in ("size", "sizes") if n in node.kwargs), None)
    given: Any = node.kwargs[name] if name else node.args
    if len(given) == 1 and not isinstance(given[0], int) and _is_list(given[0]):
        given = given[0]
    sizes = graph.call_function(_with_sizes, (given, counts))
    if name:
        return node.args, {**node.kwargs, name: sizes}
    return (sizes,), dict(node.kwargs)


def _is_list(value: Any) -> bool:
    return isinstance(value.meta["val"] if isinstance(value, fx.Node) else value, tuple | list)


def _with_sizes(sizes: Iterable[int], counts: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    changed = dict(counts)
    return tuple(changed.get(dim, size) for dim, size in enumerate(sizes))


def _selected(x: Tensor, dim: int, indices: Indices) -> Tensor:
    """Selects slices; they lie in memory in the order in which those of x do."""
    order = _order(x)
    index = torch.tensor(indices, device=x.device)
    return _back(x.permute(order).index_select(order.index(dim), index), order)


def _widened(x: Tensor, dim: int, indices: Indices, size: int) -> Tensor:
    """Puts slices at their indices of a dimension, with ones between, in the same order."""
    order = _order(x)
    given, place = x.permute(order), order.index(dim)
    wide = x.new_ones([*given.shape[:place], size, *given.shape[place + 1 :]])
    index = torch.tensor(indices, device=x.device)
    return _back(wide.index_copy(place, index, given), order)


def _order(x: Tensor) -> list[int]:
    """Lists the dimensions from the one with the longest steps: numbers are drawn along memory."""
    return sorted(range(x.ndim), key=x.stride().__getitem__, reverse=True)


def _back(x: Tensor, order: list[int]) -> Tensor:
    return x.permute([order.index(d) for d in range(x.ndim)])
