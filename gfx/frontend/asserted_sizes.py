"""Writes what a forward takes for granted about sizes as rules: assertions, and numbers of pieces.

Symbolic trace goes on behind an `assert`, and `a, b = x.split(8, -1)` takes as many pieces as there
are names. Both hold for the example, and the graph says neither.

1. What is asserted of sizes (`assert h % 8 == 0`), of inputs or of activations, is a rule of the
   program about its inputs. What is asserted of values holds on the example: no graph can carry it.
2. So is the number of pieces that forward unpacks, of a tensor or of a list of tensors.
3. Where no formula says how a size follows from those of the inputs, the program stands for the
   example's sizes, as far as others change it.
4. Where forward takes a rank for granted, and the graph would run at another, the rank is a rule.
"""

import ast
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn

from gfx.frontend.inputs.bind import Arguments
from gfx.frontend.size_conditions import kept_rules, tensor_paths, with_ranks
from gfx.frontend.symbolic_sizes import (
    SymbolicSizes,
    Values,
    other_ranks,
    other_sizes,
    values_at,
)
from gfx.ir.interpreter import ancestors

__all__ = ["Taken", "asserted_rules"]

_Get = Callable[[fx.Node], Any]
_SPLITS = frozenset("split unsafe_split".split())
_CHUNKS = frozenset("chunk unsafe_chunk".split())


@dataclass(frozen=True)
class Taken:
    """What forward took for granted of a node: that it is true, or has so many parts."""

    node: fx.Node
    parts: int | None = None

    @property
    def reads(self) -> list[fx.Node]:
        """The nodes whose values decide it."""
        return list(self.node.all_input_nodes) if self.divides else [self.node]

    @cached_property
    def divides(self) -> tuple[str, Any, Any, Any] | None:
        """How the node takes a tensor apart: the operation, tensor, size and dimension."""
        name = getattr(self.node.target, "__name__", str(self.node.target))
        if self.parts is None or name not in _SPLITS | _CHUNKS | {"unbind"}:
            return None
        named = dict(self.node.kwargs)
        dim = named.pop("dim", 0)
        given = [*self.node.args, *named.values()]
        if name == "unbind":
            given.insert(1, None)
        return name, given[0], given[1], given[2] if len(given) > 2 else dim

    def holds(self, get: _Get) -> Any:
        """Returns whether it holds; None of what is no matter of sizes."""
        if self.parts is None:
            value = get(self.node)
            return value if isinstance(value, bool | int | torch.SymBool | torch.SymInt) else None
        if self.divides is None:
            value = get(self.node)
            if isinstance(value, torch.Tensor):
                return value.shape[0] == self.parts
            return len(value) == self.parts if isinstance(value, tuple | list) else None
        name, tensor, size, dim = fx.node.map_arg(self.divides, get)
        total = tensor.shape[dim]
        if name == "unbind":
            return total == self.parts
        if isinstance(size, tuple | list):
            return len(size) == self.parts
        if name in _CHUNKS:
            size = (total + size - 1) // size
        return (total + size - 1) // size == self.parts


def asserted_rules(
    model: nn.Module, graph: fx.Graph, arguments: Arguments, taken: Sequence[Taken]
) -> tuple[str, ...]:
    """Returns the rules about inputs that follow from what was taken for granted.

    Example:
        >>> from gfx.frontend.inputs.bind import bind
        >>> graph = fx.Graph()
        >>> x = graph.placeholder("input")
        >>> found = asserted_rules(
        ...     nn.Tanh(), graph, bind(nn.Tanh(), torch.ones(1, 3, 16, 16)),
        ...     [Taken(graph.call_method("split", (x, 8, -1)), 2)],
        ... )
        >>> found
        ('input.ndim == 4', '(input.shape[3] + 7) // 8 == 2')
    """
    taken = [item for item in dict.fromkeys(taken) if item.node.op != "get_attr"]
    if not taken:
        return ()
    found: dict[str, None] = {}
    try:
        sizes = SymbolicSizes(model, graph, arguments, _reads(taken))
        for item in taken:
            found |= dict.fromkeys([*sizes.asked(item.node), *sizes.rules(item.holds)])
        unsure: Container[str] = sizes.fixed()
    except Exception:  # anything in a graph may refuse symbolic sizes
        found, unsure = {}, _All()
    texts = [ast.unparse(ast.parse(rule)) for rule in found if ".shape[" in rule]  # fewer brackets
    rules = list(kept_rules(texts, arguments, True))
    rules += _example_sizes(model, graph, arguments, taken, unsure)
    ranks = _ranks(model, graph, arguments, taken)
    places = list(tensor_paths(arguments))
    return tuple(dict.fromkeys((*ranks, *with_ranks(dict.fromkeys(rules), places))))


def _reads(taken: Sequence[Taken]) -> list[fx.Node]:
    return [node for item in taken for node in item.reads]


class _All(Container[str]):
    """Holds every size."""

    def __contains__(self, place: object) -> bool:
        return True


def _example_sizes(
    model: nn.Module,
    graph: fx.Graph,
    arguments: Arguments,
    taken: Sequence[Taken],
    unsure: Container[str],
) -> Iterator[str]:
    """Yields rule 3; `unsure` holds the sizes of inputs that no formula speaks of."""
    nodes = ancestors(_reads(taken))
    now: Values | None = None
    for changed, other in other_sizes(arguments):
        places = {
            f"{path}.shape[{dim}]": int(tensor.shape[dim])
            for path, tensor in tensor_paths(arguments)
            for dim in changed(tensor)
        }
        places = {place: size for place, size in places.items() if place in unsure}
        then = values_at(model, graph, other, nodes) if places else None
        if then is None:
            continue
        now = now or values_at(model, graph, arguments, nodes)
        if now and any(_sizes(item, now) != _sizes(item, then) for item in taken):
            yield from (f"{place} == {size}" for place, size in places.items())


def _sizes(item: Taken, values: Values) -> list[Any]:
    """Lists the sizes that decide what was taken for granted."""
    if item.divides:
        _, tensor, size, dim = fx.node.map_arg(item.divides, values.__getitem__)
        return [tensor.shape[dim], size]
    if item.parts is not None:  # what is in a list of pieces does not decide how many there are
        value = values[item.node]
        return [value.shape[0] if isinstance(value, torch.Tensor) else len(value)]
    found: list[Any] = []
    waiting = list(item.reads)
    while waiting:
        node = waiting.pop()
        if isinstance(values[node], int | float | tuple):
            found.append(values[node])
            waiting += node.all_input_nodes
    return [x for x in found if not isinstance(x, tuple) or isinstance(x, torch.Size)]


def _ranks(
    model: nn.Module, graph: fx.Graph, arguments: Arguments, taken: Sequence[Taken]
) -> Iterator[str]:
    """Yields rule 4."""
    for paths, other in other_ranks(arguments):
        values = values_at(model, graph, other, _reads(taken))
        if values is None:
            continue
        try:
            broken = any(item.holds(values.__getitem__) == 0 for item in taken)
        except (IndexError, ZeroDivisionError):  # no such dimension
            broken = True
        if broken:
            yield from paths
