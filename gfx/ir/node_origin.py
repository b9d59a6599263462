"""Records which activation of the original program a node of the rewritten one stands for.

Before   a node knows nothing of the program that the recipe began with
After    node.meta["gfx_origin"] = (name of a node there, {dimension: indices that are left})

A node without a record stands for the whole node of the same name. Edits keep the record: a removal
narrows it, a pass that replaces one node by another calls `stands_for`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, fx

from gfx.ir.program import Program

__all__ = ["Origin", "forget", "narrow", "origin", "origin_in", "stands_for"]

Indices = tuple[int, ...]

_KEY = "gfx_origin"


@dataclass(frozen=True)
class Origin:
    """Names an activation of the original program and what of it is left.

    Example:
        >>> Origin("conv1", {1: (0, 2)}).kept
        {1: (0, 2)}
    """

    node: str  # name of a node of the original program
    kept: Mapping[int, Indices] = field(default_factory=dict)  # by dimension; others are whole

    def of(self, value: Tensor) -> Tensor:
        """Selects what is left from the original activation."""
        for dim, indices in self.kept.items():
            index = value.new_tensor(indices).long()
            value = value.index_select(dim, index)
        return value


def origin(node: fx.Node) -> Origin | None:
    """Returns what a node stands for; None if it is known to stand for nothing.

    Example:
        >>> graph = fx.Graph()
        >>> x = graph.placeholder("x")
        >>> origin(x)
        Origin(node='x', kept={})
    """
    if _KEY not in node.meta:
        return Origin(node.name)
    recorded = node.meta[_KEY]
    return None if recorded is None else Origin(recorded[0], recorded[1] or {})


def stands_for(new: fx.Node, old: fx.Node | None) -> None:
    """Records that a node stands for what another one stood for; None: for nothing.

    Example:
        >>> graph = fx.Graph()
        >>> x, y = graph.placeholder("x"), graph.placeholder("y")
        >>> stands_for(y, x)
        >>> origin(y)
        Origin(node='x', kept={})
    """
    found = None if old is None else origin(old)
    new.meta[_KEY] = None if found is None else (found.node, dict(found.kept) or None)


def narrow(node: fx.Node, kept: Mapping[int, Iterable[int]]) -> None:
    """Records that of some dimensions only some of the present indices are left.

    Example:
        >>> graph = fx.Graph()
        >>> x = graph.placeholder("x")
        >>> narrow(x, {1: [0, 2, 3]})
        >>> narrow(x, {1: [1, 2]})
        >>> origin(x)
        Origin(node='x', kept={1: (2, 3)})
    """
    before = origin(node)
    if before is None:
        return
    left = dict(before.kept)
    for dim, indices in kept.items():
        own = left.get(dim)
        left[dim] = tuple(map(int if own is None else own.__getitem__, indices))
    node.meta[_KEY] = (before.node, left or None)


def origin_in(original: Program, node: fx.Node) -> tuple[fx.Node, Origin] | None:
    """Finds the node of the original program that a node stands for; None if there is none.

    Where nothing was recorded, a node of the same name that does something else is none.
    """
    found = origin(node)
    if found is None:
        return None
    old = next((n for n in original.graph.nodes if n.name == found.node), None)
    if old is None:
        return None
    other = (old.op, old.target) != (node.op, node.target)
    return None if _KEY not in node.meta and other else (old, found)


def forget(program: Program) -> None:
    """Removes the record of every node: each then stands for itself."""
    for node in program.graph.nodes:
        node.meta.pop(_KEY, None)
