"""Computes the size of every dimension of every activation after a removal."""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from gfx.coupling.groups import Groups
from gfx.coupling.labelled_tensor import Labeled, core, rows_of, tensors, varying
from gfx.coupling.labels import Mask
from gfx.ir.node_origin import stands_for

__all__ = ["Sizes"]


class Sizes:
    """Computes what is left of each node's output, given which classes of labels are removed.

    With `elastic`, which classes of labels may go at other widths, repairs write everything that
    may follow these widths, in the same form whatever goes.
    """

    def __init__(self, groups: Groups, removed: Mask, elastic: Mask | None = None) -> None:
        self.groups, self.general = groups, elastic is not None
        self._elastic = np.zeros(0) if elastic is None else elastic[groups.roots]  # by label
        self.kept = groups.kept(removed)
        self._shapes: dict[int, tuple[int, ...]] = {}
        self._alive: dict[tuple[int, int], tuple[Labeled, Mask]] = {}  # by identity, dimension
        # shapes that views of weights will have, on the way to a statistic
        self.views: dict[fx.Node, torch.Size] = {}
        self._others: dict[fx.Node, tuple[Any, Any, bool]] = {}  # values before and after
        self._sources: dict[fx.Node, fx.Node] = {}  # by inserted node: the one it stands for

    def value_of(self, node: fx.Node) -> Any:
        """Returns a node's value as the analysis sees it; of an inserted node, its source's."""
        return self.groups.value_of(self._sources.get(node, node))

    def alive(self, value: Labeled, dim: int) -> Mask:
        """Returns for each index of a dimension whether it stays."""
        known = self._alive.get((id(value), dim))
        if known is not None:
            return known[1]
        stay = np.ones(value.shape[dim], dtype=np.bool_)
        for labels in value.fields:
            if dim in varying(labels):
                stay &= self.kept[rows_of(labels, dim)].any(axis=1)
        self._alive[id(value), dim] = (value, stay)
        return stay

    def shape(self, value: Labeled) -> tuple[int, ...]:
        """Returns the shape that an activation will have."""
        known = self._shapes.get(id(value))
        if known is None:
            sizes = list(value.shape)
            for d in {d for labels in value.fields for d in varying(labels)}:
                sizes[d] = int(self.alive(value, d).sum())
            known = self._shapes[id(value)] = tuple(sizes)
        return known

    @cached_property
    def after(self) -> dict[fx.Node, Any]:
        """Maps each node to its value after the removal: meta tensors, numbers computed anew."""
        found: dict[fx.Node, Any] = {}
        for node in self.groups.program.graph.nodes:
            if node.op == "output":
                continue
            labeled = self.value_of(node)
            value = node.meta["val"]
            if _holds(labeled, Labeled):
                found[node] = self._imagined(labeled, value)
            elif node.op in ("call_function", "call_method") and value is not None:
                found[node] = _evaluate(node, found)
            else:
                found[node] = value
        return found

    def _imagined(self, labeled: Any, value: Any) -> Any:
        """Makes meta tensors of the new shapes in the structure of a node's value."""
        if isinstance(labeled, Labeled):
            return torch.empty(self.shape(labeled), dtype=value.dtype, device="meta")
        if isinstance(labeled, (tuple, list)):
            return tuple(self._imagined(a, b) for a, b in zip(labeled, value, strict=True))
        return value

    def stands_for(self, new: fx.Node, old: fx.Node) -> None:
        """Records that an inserted node has the labels of the node it follows."""
        new.meta["val"] = old.meta["val"]
        stands_for(new, old)
        self.after[new], self._sources[new] = self.after[old], self._sources.get(old, old)

    def holds_tensor(self, node: fx.Node) -> bool:
        """Whether a node's value is a tensor, or a tuple with one."""
        return _holds(self.value_of(node), Labeled)

    def follows(self, value: Any, dim: int | None = None) -> bool:
        """Whether a value, or a dimension of it, has labels that may go at other widths."""
        return self.general and any(
            bool(self._elastic[core(labels).numpy()].any())
            for each in tensors(value)
            for labels in each.fields
            if dim is None or dim in varying(labels)
        )

    def changed(self, node: fx.Node) -> bool:
        """Whether the node or anything it reads has another shape or number than before.

        Where some classes are elastic, whether it may have at other widths.
        """
        seen = (node, *node.all_input_nodes)
        if self.general and any(self.follows(self.value_of(n)) for n in seen):
            return True
        return any(self._other(n) for n in seen)

    def _other(self, node: fx.Node) -> bool:
        """Whether a node has another shape or number; of a long list, this is found out once."""
        before, after = node.meta["val"], self.after[node]
        if not isinstance(before, list | tuple):
            return _differs(before, after)
        known = self._others.get(node)
        if known is None or known[0] is not before or known[1] is not after:
            known = self._others[node] = (before, after, _differs(before, after))
        return known[2]


def _holds(value: Any, kind: type) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_holds(v, kind) for v in value)
    return isinstance(value, kind)


def _evaluate(node: fx.Node, after: dict[fx.Node, Any]) -> Any:
    """Runs size arithmetic on the new shapes."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: after[n])
    if node.op == "call_method":
        if node.target in ("item", "tolist") and isinstance(args[0], Tensor):
            return node.meta["val"]  # a number out of the data, which no shape tells
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    if node.target is getattr and args[1] in ("device", "dtype", "is_cuda"):
        return node.meta["val"]  # a meta tensor would answer wrongly
    return node.target(*args, **kwargs)  # type: ignore[operator]


def _differs(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor):
        return bool(before.shape != after.shape)
    if isinstance(before, (tuple, list)) and isinstance(after, (tuple, list)):
        return len(before) != len(after) or any(
            _differs(a, b) for a, b in zip(before, after, strict=True)
        )
    return bool(before != after)
