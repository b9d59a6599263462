"""Gives the layers of a supernet's graph the widths of one subnet after the other.

Most layers have the widths that they had for the subnet before: only the others are given their
numbers and the parts of their tensors anew.
"""

from collections.abc import Sequence
from typing import Any

from torch import fx

from gfx.train.supernet.affine_values import replaced
from gfx.train.supernet.kept_intervals import Intervals, TensorPart, part_of
from gfx.train.supernet.subnet_graph import SIZES, SubnetGraph

__all__ = ["LayerWidths"]

Key = tuple[int, ...]


class LayerWidths:
    """Sets the widths of the layers of a graph, node by node.

    Args:
        graph: of a supernet; `set` there makes it whole again.
    """

    def __init__(self, graph: SubnetGraph) -> None:
        self.graph = graph
        self.nodes = list(graph.every.graph.nodes)
        self._layers = [_layer_of(graph, node) for node in self.nodes]
        self._now: dict[str, Key] = {}
        self._numbers: list[Any] = []

    @property
    def follows(self) -> list[tuple[int, ...]]:
        """The groups whose widths each node itself follows, by number."""
        return [layer.groups for layer in self._layers]

    def begin(self, units: Sequence[int]) -> None:
        """Hands out all tensors as they are now, in eval mode."""
        self.graph.evaluating_every(units)
        self._numbers = vars(self.graph.every)[SIZES]
        self._now = {}

    def set(self, units: Sequence[int], first: int = 0) -> None:
        """Sets the widths of the nodes from one on, in units of each group."""
        for layer in self._layers[first:]:
            if not layer.groups:
                continue
            key = tuple(units[group] for group in layer.groups)
            if self._now.get(layer.name) != key:
                layer.give(key, units, self._numbers)
                self._now[layer.name] = key


class _Layer:
    """What of one node follows the widths."""

    def __init__(self, name: str, number: tuple[int, Any] | None = None) -> None:
        self.name = name
        self.number = number  # place in the list of numbers, function
        self.attributes: list[tuple[Any, str, Any]] = []  # layer, name, functions by place
        self.tensors: list[tuple[Any, str, Any, Sequence[Intervals | None], bool]] = []
        self.groups: tuple[int, ...] = ()
        self._known: dict[Key, tuple[Any, list[Any], list[TensorPart]]] = {}

    def give(self, key: Key, units: Sequence[int], numbers: list[Any]) -> None:
        """Sets numbers, attributes and tensors; `key` are the units of its groups."""
        if key not in self._known:
            self._known[key] = self._at(units)
        number, attributes, parts = self._known[key]
        if self.number is not None:
            numbers[self.number[0]] = number
        for (layer, name, _), put in zip(self.attributes, attributes, strict=True):
            setattr(layer, name, replaced(getattr(layer, name), put))
        for (target, name, store, _, read), part in zip(self.tensors, parts, strict=True):
            cut = store[name] if part.whole else part.of(store[name])
            target[name] = cut.contiguous() if read and not part.whole else cut

    def _at(self, units: Sequence[int]) -> tuple[Any, list[Any], list[TensorPart]]:
        """Returns the number, what is put into the attributes, and the parts of the tensors."""
        number = None if self.number is None else self.number[1].at(units)
        attributes = [
            {place: function.at(units) for place, function in functions.items()}
            for _, _, functions in self.attributes
        ]
        parts = [
            part_of([dim.size if dim else 0 for dim in dims], dims, units)
            for _, _, _, dims, _ in self.tensors
        ]
        return number, attributes, parts


def _layer_of(graph: SubnetGraph, node: fx.Node) -> _Layer:
    """Finds what of a node follows the widths."""
    plan, target = graph.plan, str(node.target)
    made = _Layer(node.name)
    if node.op == "call_function" and len(node.args) == 2 and _reads_size(node):
        at = node.args[1]
        assert isinstance(at, int)
        made.number = at, graph.functions[at]
    elif node.op in ("call_module", "get_attr") and target != SIZES:
        made.name = target
        for (path, name), functions in plan.attributes.items():
            if node.op == "call_module" and (path == target or path.startswith(f"{target}.")):
                made.attributes.append((graph.every.get_submodule(path), name, functions))
        for held, name, store, path, read in graph.tensors_below(target):
            if path in plan.intervals:
                made.tensors.append((held, name, store, plan.intervals[path], read))
    followed: list[Any] = [] if made.number is None else [made.number[1]]
    followed += [function for *_, found in made.attributes for function in found.values()]
    groups = {group for function in followed for group, _ in function.slopes}
    for _, _, _, dims, _ in made.tensors:
        groups |= {run.group for dim in dims if dim for run in dim.runs if run.group >= 0}
    made.groups = tuple(sorted(groups))
    return made


def _reads_size(node: fx.Node) -> bool:
    source = node.args[0]
    return isinstance(source, fx.Node) and source.op == "get_attr" and source.target == SIZES
