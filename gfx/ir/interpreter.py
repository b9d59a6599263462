"""Runs a graph node by node, with a callback that may see, replace or time each node's value.

1. `step_through` runs nodes in order from given values; the callback `see` computes each value.
2. `see` may read other values than those of the graph, or return another value than the node's.
3. A value is dropped after the node that reads it last.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from typing import Any

from torch import fx, nn

__all__ = ["Get", "Interpreter", "See", "Values", "ancestors", "descendants", "overlaid"]

Values = dict[fx.Node, Any]
Get = Callable[[fx.Node], Any]  # the value of a node
See = Callable[[fx.Node, Get], Any]  # a node, and what it may read → its value


class Interpreter(fx.Interpreter):
    """Runs the nodes of a graph, or only some of them.

    What `only` names must be named with all that it reads.

    Example:
        >>> import torch
        >>> module = fx.symbolic_trace(torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Tanh()))
        >>> runner, seen = Interpreter(module), []
        >>> def see(node, get):
        ...     seen.append(node.name)
        ...     return runner.value(node, get)
        >>> runner.run(torch.zeros(1), see=see)
        tensor([0.])
        >>> seen
        ['input_1', '_0', '_1', 'output']
    """

    def __init__(
        self,
        module: nn.Module,
        only: Collection[fx.Node] | None = None,
        graph: fx.Graph | None = None,
    ) -> None:
        super().__init__(module, garbage_collect_values=False, graph=graph)
        self.only = only

    @cached_property
    def nodes(self) -> tuple[fx.Node, ...]:
        """The nodes that are run, in order."""
        return tuple(n for n in self.graph.nodes if self.only is None or n in self.only)

    @cached_property
    def last_reads(self) -> dict[fx.Node, list[fx.Node]]:
        """Maps each node to the values that no later node reads."""
        return _last_reads(self.nodes)

    def run(self, *inputs: Any, see: See | None = None) -> Any:  # type: ignore[override]
        """Runs all nodes; returns the output, or the value of the last node if it is another."""
        self.start(inputs)
        value = self.step_through({}, see=see)
        ends = bool(self.nodes) and self.nodes[-1].op == "output"
        return self.graph.process_outputs(value) if ends else value

    def start(self, inputs: tuple[Any, ...]) -> None:
        """Gives the placeholders their values, for the next run."""
        self.args_iter = iter(self.graph.process_inputs(*inputs))

    def step_through(
        self, values: Values, nodes: Iterable[fx.Node] | None = None, see: See | None = None
    ) -> Any:
        """Runs nodes one after the other (rule 1), and returns the value of the last.

        Args:
            values: of nodes that ran before; the others' are added, and dropped again (rule 3).
            nodes: those to run; None means all of the interpreter's.
            see: computes each value; None means `value`.
        """
        see, get = see or self.value, values.__getitem__
        value = None
        for node in self.nodes if nodes is None else nodes:
            value = values[node] = see(node, get)
            for done in self.last_reads.get(node, ()):
                values.pop(done, None)
        return value

    def value(self, node: fx.Node, get: Get) -> Any:
        """Runs a node on what it reads."""
        args, kwargs = self.arguments(node, get)
        return self.call(node, args, kwargs)

    def arguments(self, node: fx.Node, get: Get) -> Any:
        """Returns the arguments of a node, and those by keyword."""
        return fx.node.map_arg((node.args, node.kwargs), get)

    def call(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """Calls a node on arguments."""
        return getattr(self, node.op)(node.target, args, kwargs)


def ancestors(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Collects nodes and all that they follow from."""
    waiting = list(nodes)
    found = set(waiting)
    while waiting:
        new = [node for node in waiting.pop().all_input_nodes if node not in found]
        found.update(new)
        waiting.extend(new)
    return found


def descendants(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Collects nodes and all that is computed from them, directly or not."""
    waiting = list(nodes)
    found = set(waiting)
    while waiting:
        new = [node for node in waiting.pop().users if node not in found]
        found.update(new)
        waiting.extend(new)
    return found


def overlaid(get: Get, instead: Mapping[fx.Node, Any]) -> Get:
    """Reads some nodes' values from a mapping, and the others' as before."""
    if not instead:
        return get
    return lambda node: instead[node] if node in instead else get(node)


def _last_reads(nodes: Iterable[fx.Node]) -> dict[fx.Node, list[fx.Node]]:
    last: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        last[node] = node
        last.update(dict.fromkeys(node.all_input_nodes, node))
    found: dict[fx.Node, list[fx.Node]] = {}
    for value, node in last.items():
        if value.op != "output":
            found.setdefault(node, []).append(value)
    return found
