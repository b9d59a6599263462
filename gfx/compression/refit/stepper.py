"""Runs a program node by node, and keeps no more than what later nodes read.

1. `advance` moves on for good; `ahead` looks at nodes further on and stays where it is.
2. Every node that may draw at random draws from a state of its own, named after the original
   activation: both programs meet the same noise, however often they are run.
3. What is written in place never reaches a value that somebody keeps.
4. Many batches are on their way within a limit of memory: those without room are read and run
   again from the start each time somebody looks at them.
"""

import copy
from collections.abc import Callable, Collection, Iterator
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from gfx.ir.execute import copied
from gfx.ir.interpreter import Get, Interpreter, Values
from gfx.ir.modules import is_known
from gfx.ir.node_origin import origin
from gfx.ir.ops import is_inplace
from gfx.ir.program import Program

__all__ = ["Frontiers", "Stepper", "Steps"]

See = Callable[[fx.Node, Any], Any]


class Steps:
    """The nodes of a program in order, and what runs them."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes = list(program.graph.nodes)
        self.place = {node: i for i, node in enumerate(self.nodes)}
        self.mutates = any(self._mutates(node) for node in self.nodes)
        self.plain = {node for node in self.nodes if self._is_plain(node)}
        self.runner = Interpreter(program.module)

    def _mutates(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            module = self.program.submodule(node)
            return bool(getattr(module, "inplace", False)) or not is_known(module)
        return is_inplace(node)

    def _is_plain(self, node: fx.Node) -> bool:
        """Whether a node draws nothing at random for certain."""
        if node.op == "call_module":
            return is_known(self.program.submodule(node))
        return node.op in ("placeholder", "get_attr", "output")

    def value(self, node: fx.Node, get: Get, seed: str) -> Any:
        """Computes one node from the values of others (rule 2); inputs have theirs already."""
        if node.op == "placeholder":
            return get(node)
        if node not in self.plain:
            found = origin(node)
            name = node.name if found is None else found.node
            torch.manual_seed(crc32(f"{seed}/{name}".encode()))
        return self.runner.value(node, get)


class Stepper:
    """One batch on its way through a program."""

    def __init__(self, steps: Steps, inputs: tuple[Any, ...], seed: str) -> None:
        self.steps = steps
        self.seed = seed
        self.at = 0  # the next node to run
        own = copied(inputs) if steps.mutates else inputs
        flat = steps.program.graph.process_inputs(*own)
        holders = [node for node in steps.nodes if node.op == "placeholder"]
        self.env: Values = {
            node: flat[i] if i < len(flat) else node.args[0] for i, node in enumerate(holders)
        }
        self.kept: Values = {}

    def advance(self, place: int, keep: Collection[fx.Node] = ()) -> None:
        """Runs all nodes before a place; what `keep` names is kept until it is forgotten."""

        def kept(node: fx.Node, get: Get) -> Any:
            value = self.steps.value(node, get, self.seed)
            if node in keep:
                self.kept[node] = copied(value) if self.steps.mutates else value  # rule 3
            return value

        self.steps.runner.step_through(self.env, self.steps.nodes[self.at : place], kept)
        self.at = max(self.at, place)

    def ahead(self, wanted: Collection[fx.Node], see: See | None = None) -> Values:
        """Computes nodes further on; `see` may replace what each node gives."""
        env = self._own()
        found: Values = {}
        last = max((self.steps.place[node] for node in wanted), default=-1)
        for node in wanted:
            if self.steps.place[node] < self.at:
                value = self.kept[node] if node in self.kept else env[node]
                found[node] = copied(value) if self.steps.mutates else value

        def looked(node: fx.Node, get: Get) -> Any:
            value = self.steps.value(node, get, self.seed)
            value = value if see is None else see(node, value)
            if node in wanted:
                found[node] = copied(value) if self.steps.mutates else value
            return value

        self.steps.runner.step_through(env, self.steps.nodes[self.at : last + 1], looked)
        return found

    def output(self) -> Any:
        """Runs the rest and returns what the program gives."""
        last = self.steps.nodes[-1]
        return self.ahead((last,))[last]

    def forget(self, nodes: Collection[fx.Node]) -> None:
        """Drops kept values."""
        for node in nodes:
            self.kept.pop(node, None)

    def bytes(self) -> int:
        """Counts the memory of what is held; a memory shared by several tensors counts once."""
        leaves = pytree.tree_leaves((list(self.env.values()), list(self.kept.values())))
        stores = [x.untyped_storage() for x in leaves if isinstance(x, Tensor)]
        return sum({s.data_ptr(): s.nbytes() for s in stores}.values())

    def _own(self) -> Values:
        """Returns values that may be written into."""
        if not self.steps.mutates:
            return dict(self.env)
        values = copy.deepcopy(list(self.env.values()))  # what shares memory goes on sharing it
        return dict(zip(self.env, values, strict=True))


Source = Callable[[], Iterator[tuple[int, tuple[Any, ...]]]]  # numbered batches, read anew


class Frontiers:
    """Moves every batch of a source through a program."""

    def __init__(self, steps: Steps, source: Source, memory: float, seed: int) -> None:
        self.steps = steps
        self.source = source
        self.memory = memory  # bytes
        self.seed = seed
        self.held: dict[int, Stepper] = {}
        self.sizes: dict[int, int] = {}
        self.whole = False  # whether every batch is held

    def at(self, place: int, keep: Collection[fx.Node] = ()) -> Iterator[Stepper]:
        """Yields every batch, in order, with all nodes before a place run."""
        read = self._held() if self.whole else self._read()
        self.whole = True
        for number, frontier in read:
            frontier.advance(place, keep)
            frontier.forget([node for node in frontier.kept if node not in keep])
            yield frontier
            self._hold(number, frontier)

    def _held(self) -> Iterator[tuple[int, Stepper]]:
        yield from sorted(self.held.items())

    def _read(self) -> Iterator[tuple[int, Stepper]]:
        for number, inputs in self.source():
            held = self.held.get(number)
            yield number, held or Stepper(self.steps, inputs, f"{self.seed}/{number}")

    def _hold(self, number: int, frontier: Stepper) -> None:
        """Keeps a batch where it is, if there is room."""
        self.sizes[number] = frontier.bytes()
        if sum(self.sizes.values()) <= self.memory:
            self.held[number] = frontier
            return
        self.whole = False
        self.sizes.pop(number)
        self.held.pop(number, None)
