"""Reduces a program to few elements: inputs, layers, joins of branches, the output.

An edge leads from an element to the next one that reads its value, through everything between them
that is no element (norms, activations, resizes).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import fx

from gfx.ir.ops import op_name
from gfx.ir.program import Program
from gfx.ir.stages import layers

__all__ = ["Edge", "Element", "Network", "network_of"]

_SIGNS = {"add": "+", "sub": "-", "mul": "x", "cat": "cat", "matmul": "@", "bmm": "@"}


@dataclass(frozen=True)
class Element:
    """One element of the drawing."""

    kind: Literal["input", "layer", "join", "output"]
    node: str  # name of the node
    sign: str = ""  # of a join: its operation


@dataclass(frozen=True)
class Edge:
    """An edge from one element to a later one, by their numbers."""

    source: int
    target: int


@dataclass(frozen=True)
class Network:
    """Holds the elements in the order in which they run, and the edges between them."""

    elements: tuple[Element, ...]
    edges: tuple[Edge, ...]


def network_of(program: Program) -> Network:
    """Reduces a program to its elements; its nodes must have shapes.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("resnet_9blocks", ngf=4), torch.zeros(1, 3, 32, 32))
        >>> from gfx.ir.shapes.propagate import propagate
        >>> _ = propagate(program)
        >>> found = network_of(program)
        >>> [sum(e.kind == kind for e in found.elements) for kind in ("layer", "join")]
        [24, 9]
    """
    drawn = {node.name for node in layers(program)}
    elements: list[Element] = []
    edges: dict[Edge, None] = {}
    nearest: dict[fx.Node, tuple[int, ...]] = {}

    def place(node: fx.Node, element: Element, sources: tuple[int, ...]) -> None:
        elements.append(element)
        edges.update((Edge(source, len(elements) - 1), None) for source in sources)
        nearest[node] = (len(elements) - 1,)

    for node in program.nodes():
        read = [nearest[n] for n in node.all_input_nodes if nearest.get(n)]
        sources = tuple(dict.fromkeys(i for some in read for i in some))
        if node.op == "placeholder":
            place(node, Element("input", node.name), ())
        elif node.op == "output":
            place(node, Element("output", node.name), sources)
        elif node.name in drawn:
            place(node, Element("layer", node.name), sources)
        elif not _is_tensor(node):
            nearest[node] = sources if _holds_tensors(node) else ()
        elif len(sources) > 1 and len(set(read)) > 1:
            sign = _SIGNS.get(op_name(node), op_name(node) or "")
            place(node, Element("join", node.name, sign), sources)
        else:
            nearest[node] = sources
    return Network(tuple(elements), tuple(edges))


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)


def _holds_tensors(node: fx.Node) -> bool:
    """Whether a node returns several tensors, as a chunk or split does."""
    value = node.meta.get("val")
    return isinstance(value, tuple | list) and any(isinstance(v, torch.Tensor) for v in value)
