"""Infers the shape of an input from the first layer that reads it.

From each input the graph is followed forward, through activations, reshapes, concatenations and
splits, to the first layer with a width of its own. The way back turns this width into the input's.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from gfx.frontend.inputs.from_layers import Reader, reader_of, width_after
from gfx.frontend.inputs.from_names import Role, role_of
from gfx.ir.ops import op_name

__all__ = ["Need", "needs"]

_IMAGE_WIDTHS = (3, 1)  # channels of an image that shares its first layer with something else
_MOST_PIECES = 16  # of a latent that is split, where the graph does not say how many
_RAISING = frozenset(["view", "reshape", "unsqueeze", "expand", "repeat", "unflatten", "flatten"])
_COUNTING = frozenset(["size", "getattr", "dim", "numel", "len"])  # what they return is no tensor


@dataclass(frozen=True)
class Need:
    """Holds what is known about one input."""

    name: str
    role: Role
    reader: Reader | None = None  # the first layer with a width
    widths: tuple[int, ...] = ()  # of the input, the likely one first
    vector: bool = False  # it is given more dimensions on the way


def needs(graph: fx.Graph, model: nn.Module) -> list[Need]:
    """Finds what each input of a graph needs; the graph may end early.

    Example:
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.stem = nn.Conv2d(8, 4, 3)
        ...     def forward(self, x, c):
        ...         c = c.view(c.size(0), c.size(1), 1, 1).expand(-1, -1, 9, 9)
        ...         return self.stem(torch.cat([x, c], 1))
        >>> import torch
        >>> model = Net()
        >>> found = needs(fx.symbolic_trace(model).graph, model)
        >>> [(need.name, need.widths[0], need.vector) for need in found]
        [('x', 3, False), ('c', 5, True)]
    """
    return [_need(node, model) for node in graph.nodes if node.op == "placeholder"]


def _need(start: fx.Node, model: nn.Module) -> Need:
    name, role = str(start.target), role_of(str(start.target))
    way = _way(start, model)
    if not way:
        return Need(name, role)
    reader = reader_of(way[-1], model)
    if reader is None:
        raise AssertionError("a way ends at a reader")
    widths: tuple[int, ...] = (reader.width,)
    for node, source in reversed(list(zip(way[:-1], [start, *way], strict=False))):
        widths = _before(node, source, widths, model)
    return Need(name, role, reader, widths, any(_raises(node) for node in way))


def _way(start: fx.Node, model: nn.Module) -> list[fx.Node]:
    """Returns the nodes from an input to its first reader, or nothing if there is none."""
    came: dict[fx.Node, fx.Node] = {}
    for node in start.graph.nodes:
        source = next((n for n in node.all_input_nodes if n in came or n is start), None)
        if source is None or op_name(node) in _COUNTING:
            continue
        came[node] = source
        if reader_of(node, model) is not None and node.all_input_nodes[0] is source:
            return _back(node, start, came)
    return []


def _back(end: fx.Node, start: fx.Node, came: dict[fx.Node, fx.Node]) -> list[fx.Node]:
    way = [end]
    while came[way[-1]] is not start:
        way.append(came[way[-1]])
    return way[::-1]


def _before(
    node: fx.Node, source: fx.Node, widths: tuple[int, ...], model: nn.Module
) -> tuple[int, ...]:
    """Returns the possible widths of a node's source from those of its result."""
    name = op_name(node)
    if name == "cat":
        return _share(node, source, widths[0], model)
    if name in ("view", "reshape"):
        return _flat_width(node, widths)
    if name == "chunk":
        return tuple(width * _second(node) for width in widths)
    if name == "split":
        return tuple(_second(node) * pieces for pieces in _piece_counts(node))
    if name == "pixel_unshuffle":
        return tuple(width // _second(node) ** 2 for width in widths)
    return widths


def _share(cat: fx.Node, mine: fx.Node, width: int, model: nn.Module) -> tuple[int, ...]:
    """Returns the possible widths of one part of a concatenation."""
    parts = cat.all_input_nodes
    known = [0 if part is mine else width_after(part, model) or 0 for part in parts]
    left = width - sum(known)
    open_parts = [p for p, w in zip(parts, known, strict=True) if not w]
    images = [p for p in open_parts if _is_image(p)]
    rest = len(open_parts) - len(images)
    if not rest and left % len(images) == 0:
        return (left // len(images),)
    if mine in images:
        return _IMAGE_WIDTHS if left > 1 else (left,)
    shares = [(left - each * len(images)) // max(rest, 1) for each in _IMAGE_WIDTHS]
    return tuple(share for share in shares if share > 0) or (left,)


def _is_image(part: fx.Node) -> bool:
    """Whether a part of a concatenation comes from an input that looks like an image."""
    raised = False
    while part.op != "placeholder" and part.all_input_nodes:
        raised = raised or _raises(part)
        part = part.all_input_nodes[0]
    return not raised and role_of(str(part.target)) in (Role.IMAGE, Role.LABEL)


def _flat_width(node: fx.Node, widths: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the width before a view such as `z.view(-1, 512, 4, 4)`."""
    sizes: list[Any] = list(node.args[1:])
    if len(sizes) == 1 and isinstance(sizes[0], list | tuple):
        sizes = list(sizes[0])
    said = [size for size in sizes[1:] if isinstance(size, int) and size > 0]
    return (math.prod(said),) if said and len(said) == len(sizes) - 1 else widths


def _piece_counts(split: fx.Node) -> Iterator[int]:
    """Yields how many pieces a split may make: as many as are used, if the graph says so."""
    used = [n.args[1] for n in split.users if op_name(n) == "getitem"]
    if used and all(isinstance(index, int) for index in used):
        yield 1 + max(int(str(index)) for index in used)
    yield from range(1, _MOST_PIECES + 1)


def _second(node: fx.Node) -> int:
    """Returns the second argument, a whole number: the pieces of a chunk, the size of a split."""
    value = node.args[1] if len(node.args) > 1 else next(iter(node.kwargs.values()), 1)
    return value if isinstance(value, int) else 1


def _raises(node: fx.Node) -> bool:
    """Whether a node gives its input another number of dimensions."""
    if op_name(node) == "getitem" and isinstance(node.args[1], tuple):
        return None in node.args[1]
    return op_name(node) in _RAISING
