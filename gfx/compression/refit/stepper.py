"""Runs a program node by node, and keeps no more than what the nodes to come will read.

1. `advance` moves on for good; `ahead` looks at nodes further on and stays where it is.
2. Every node that may draw at random draws from a state of its own, named after what it stands for
   in the original program: both programs meet the same noise, however often they are run.
3. What is written in place never reaches a value that somebody keeps.

Many batches on their way through one program, within a limit of memory.

What is on its way is held while there is room. The batches for which there is none are read and
run again from the start each time somebody looks at them.
"""

import copy
from collections.abc import Callable, Collection, Iterator
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from gfx.ir.modules import is_known
from gfx.ir.node_origin import origin
from gfx.ir.ops import is_inplace
from gfx.ir.program import Program

__all__ = ["Frontiers", "Stepper", "Steps"]

Env = dict[fx.Node, Any]
See = Callable[[fx.Node, Any], Any]


class Steps:
    """The nodes of a program in order, and when each is last read."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes = list(program.graph.nodes)
        self.place = {node: i for i, node in enumerate(self.nodes)}
        self.last = {
            node: max((self.place[user] for user in node.users), default=i)
            for i, node in enumerate(self.nodes)
        }
        self.mutates = any(self._mutates(node) for node in self.nodes)
        self.plain = {node for node in self.nodes if self._is_plain(node)}
        self.runner = fx.Interpreter(program.module)
        self.runner.extra_traceback = False

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

    def run(self, node: fx.Node, env: Env, seed: str) -> Any:
        """Computes one node from the values of others (rule 2)."""
        if node not in self.plain:
            found = origin(node)
            name = node.name if found is None else found.node
            torch.manual_seed(crc32(f"{seed}/{name}".encode()))
        self.runner.env = env
        try:
            return self.runner.run_node(node)
        finally:
            self.runner.env = {}


class Stepper:
    """One batch on its way through a program."""

    def __init__(self, steps: Steps, inputs: tuple[Any, ...], seed: str) -> None:
        self.steps = steps
        self.seed = seed
        self.at = 0  # the next node to run
        own = pytree.tree_map_only(Tensor, torch.clone, inputs) if steps.mutates else inputs
        flat = steps.program.graph.process_inputs(*own)
        holders = [node for node in steps.nodes if node.op == "placeholder"]
        self.env: Env = {
            node: flat[i] if i < len(flat) else node.args[0] for i, node in enumerate(holders)
        }
        self.kept: Env = {}

    def advance(self, place: int, keep: Collection[fx.Node] = ()) -> None:
        """Runs all nodes before a place; what `keep` names is kept until it is forgotten."""
        while self.at < place:
            node = self.steps.nodes[self.at]
            self._step(self.env, self.at)
            if node in keep:
                value = self.env[node]
                self.kept[node] = _cloned(value) if self.steps.mutates else value  # rule 3
            for source in (node, *node.all_input_nodes):
                if self.steps.last[source] <= self.at and source.op != "output":
                    self.env.pop(source, None)
            self.at += 1

    def ahead(self, wanted: Collection[fx.Node], see: See | None = None) -> Env:
        """Computes nodes further on; `see` may replace what each node gives."""
        env = self._own()
        found: Env = {}
        last = max((self.steps.place[node] for node in wanted), default=-1)
        for node in wanted:
            if self.steps.place[node] < self.at:
                value = self.kept[node] if node in self.kept else env[node]
                found[node] = _cloned(value) if self.steps.mutates else value
        for i in range(self.at, last + 1):
            node = self.steps.nodes[i]
            self._step(env, i, see)
            if node in wanted:
                found[node] = _cloned(env[node]) if self.steps.mutates else env[node]
            for source in (node, *node.all_input_nodes):
                if self.steps.last[source] <= i:
                    env.pop(source, None)
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

    def _own(self) -> Env:
        """Returns values that may be written into."""
        if not self.steps.mutates:
            return dict(self.env)
        values = copy.deepcopy(list(self.env.values()))  # what shares memory goes on sharing it
        return dict(zip(self.env, values, strict=True))

    def _step(self, env: Env, i: int, see: See | None = None) -> None:
        node = self.steps.nodes[i]
        if node.op != "placeholder":
            env[node] = self.steps.run(node, env, self.seed)
        if see is not None:
            env[node] = see(node, env[node])


def _cloned(value: Any) -> Any:
    return pytree.tree_map_only(Tensor, torch.clone, value)


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
