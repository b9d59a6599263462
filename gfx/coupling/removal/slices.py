"""Repairs slices: a removal moves the remaining channels to other positions."""

import operator
from typing import Any

import numpy as np
from torch import fx

from gfx.coupling.labelled_tensor import Labeled
from gfx.coupling.labels import Ids, Mask
from gfx.coupling.removal.arguments import numbers
from gfx.coupling.removal.new_sizes import Sizes
from gfx.errors import EditError
from gfx.ir.ops import argument, is_inplace, only_shape, op_name

__all__ = ["narrow", "select", "slices", "subscript"]


def subscript(node: fx.Node, sizes: Sizes) -> None:
    """Repairs `x[...]`, read or written, with slices and integers on labelled dimensions."""
    source, given = argument(node, 0), argument(node, 1)
    value = sizes.value_of(source)
    if not isinstance(value, Labeled):
        return
    several = isinstance(given, tuple)
    items: list[Any] = list(given) if several else [given]
    before, now = numbers(tuple(items)), numbers(tuple(items), sizes.after)
    for i, dim in enumerate(_dims(before, value.ndim)):
        if dim is not None:
            items[i] = _moved(
                node, items[i], before[i], now[i], sizes.alive(value, dim), sizes.general
            )
    moved = tuple(items) if several else items[0]
    node.args = (source, moved, *node.args[2:])


def _dims(items: tuple[Any, ...], ndim: int) -> list[int | None]:
    """Returns the dimension of each part of an index; None for Ellipsis and new dimensions."""
    used = sum(1 for item in items if item is not None and item is not Ellipsis)
    dims: list[int | None] = []
    dim = 0
    for item in items:
        new = item is None or item is Ellipsis
        dims.append(None if new else dim)
        dim += ndim - used if item is Ellipsis else int(not new)
    return dims


def _moved(node: fx.Node, item: Any, before: Any, now: Any, alive: Mask, follows: bool) -> Any:
    """Moves one integer or slice to where its positions are now."""
    rank = np.cumsum(alive) - 1
    left = int(alive.sum())
    if not isinstance(before, int | list | slice):
        return item
    old = np.arange(len(alive))[before]
    if old.size == 1 and not alive[old].any() and only_shape(node):
        return 0 if isinstance(before, int) else slice(0, 1)  # any other channel has its shape
    if isinstance(before, int):
        wanted = int(rank[before])
        return item if now % left == wanted and not follows else wanted
    if isinstance(before, list):
        return [int(rank[i]) for i in before if alive[i]]
    positions = rank[old[alive[old]]]
    if np.array_equal(np.arange(left)[now], positions) and not follows:
        return item
    return _as_index(node, positions, follows)


def _as_index(node: fx.Node, positions: Ids, follows: bool) -> slice | list[int]:
    """Writes positions as a slice; as a list, which copies, where they are not evenly spaced."""
    steps = np.unique(np.diff(positions))
    if len(positions) == 0:
        raise EditError(f"nothing is left of what node {node.name} picks; add its source to keep")
    if len(steps) > 1:
        through = next((user.name for user in node.users if is_inplace(user)), "")
        if follows or through or not _alone(node):
            why = f", and {through} writes through it" if through else ""
            raise EditError(
                f"node {node.name} picks every n-th channel and what is left is not evenly spaced"
                f"{why}; add its source to keep"
            )
        return [int(position) for position in positions]
    step = int(steps[0]) if len(steps) else 1
    return slice(int(positions[0]), int(positions[-1]) + 1, None if step == 1 else step)


def _alone(node: fx.Node) -> bool:
    """Whether a list of positions may stand in an index: beside slices alone it keeps its place."""
    if op_name(node) == "slice":
        return True
    given = argument(node, 1)
    items = given if isinstance(given, tuple) else (given,)
    return all(isinstance(item, slice) or item is Ellipsis for item in items)


def slices(node: fx.Node, sizes: Sizes) -> None:
    """Repairs aten.slice, whose arguments are x, dim, start, end and step."""
    source, dim = argument(node, 0, "self"), argument(node, 1, "dim", default=0)
    given = (
        argument(node, 2, "start"),
        argument(node, 3, "end"),
        argument(node, 4, "step", default=1),
    )
    value = sizes.value_of(source)
    item = slice(*given)
    before, now = slice(*numbers(given)), slice(*numbers(given, sizes.after))
    new = _moved(
        node,
        item,
        before,
        now,
        sizes.alive(value, dim % value.ndim),
        sizes.follows(value, dim % value.ndim),
    )
    if isinstance(new, list):
        node.op, node.target = "call_function", operator.getitem
        node.args, node.kwargs = (source, (*(slice(None),) * (dim % value.ndim), new)), {}
    elif new is not item:
        node.args, node.kwargs = (source, dim, new.start, new.stop, new.step or 1), {}


def narrow(node: fx.Node, sizes: Sizes) -> None:
    """Repairs narrow, whose arguments are x, dim, start and length."""
    source, dim = argument(node, 0, "input"), argument(node, 1, "dim")
    given = (argument(node, 2, "start"), argument(node, 3, "length"))
    (a0, n0), (a1, n1) = numbers(given), numbers(given, sizes.after)
    value, item = sizes.value_of(source), slice(a1, a1 + n1)
    alive = sizes.alive(value, dim % value.ndim)
    new = _moved(
        node, item, slice(a0, a0 + n0), item, alive, sizes.follows(value, dim % value.ndim)
    )
    if new is not item:
        node.args, node.kwargs = (source, dim, new.start, new.stop - new.start), {}


def select(node: fx.Node, sizes: Sizes) -> None:
    """Repairs select, whose arguments are x, dim and index."""
    source, dim = argument(node, 0, "input"), argument(node, 1, "dim")
    at = argument(node, 2, "index")
    value = sizes.value_of(source)
    alive = sizes.alive(value, dim % value.ndim)
    now, follows = numbers(at, sizes.after), sizes.follows(value, dim % value.ndim)
    node.args = (source, dim, _moved(node, at, numbers(at), now, alive, follows))
    node.kwargs = {}
