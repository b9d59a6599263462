"""Records the facts of one run: who reads which version of a value, who overwrites it, who draws.

1. Values that share memory are identified by that memory, and a write by torch's version counters,
   so that no list of operations is needed.
2. Every write makes new versions of all values in that memory. A change reaches a node if it
   reaches a node or a version that this one reads.
3. Where these facts are not complete, changes run as whole programs, not alone: a write into the
   program's own tensors or into one of several tensors of a value, a module that keeps state, a
   call that sets a mode of torch, a value that cannot be inspected.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

from gfx.compression.probe.value_cache import Version
from gfx.ir.execute import tensors
from gfx.ir.modules import is_own
from gfx.ir.program import Program
from gfx.ir.random_state import State, same

__all__ = ["Observer", "RunFacts", "written_to"]

_MODES = ("autocast", "grad_enabled", "inference_mode")
_PLAIN = (type(None), bool, int, float, complex, str, bytes, slice, range, type(Ellipsis))


@dataclass
class RunFacts:
    """Holds the facts of a run of a program on one batch."""

    place: dict[fx.Node, int]  # in the order of execution
    reads: dict[fx.Node, dict[fx.Node, fx.Node]] = field(default_factory=dict)  # input: its writer
    writes: dict[fx.Node, dict[fx.Node, fx.Node]] = field(default_factory=dict)  # value: as before
    pieces: dict[fx.Node, dict[int, int]] = field(default_factory=dict)  # of a value: bytes
    last_write: dict[int, int] = field(default_factory=dict)  # by piece: place of the last writer
    last: dict[fx.Node, int] = field(default_factory=dict)  # place of the last reader
    states: list[tuple[int, State]] = field(default_factory=list)  # after the nodes that draw
    whole: str = ""  # why changes are run as whole programs (rule 3)

    def before(self, node: fx.Node) -> State:
        """Returns the random state before a node runs."""
        return self._state(self.place[node])

    def after(self, node: fx.Node) -> State:
        """Returns the random state after a node runs."""
        return self._state(self.place[node] + 1)

    def draws_after(self, node: fx.Node) -> bool:
        """Whether any later node draws random numbers."""
        return self.states[-1][0] > self.place[node]

    def size(self, versions: set[Version]) -> int:
        """Returns the bytes of the memory of some versions."""
        found: dict[tuple[int, fx.Node | None], int] = {}
        for node, writer in versions:
            for piece, count in self.pieces[node].items():
                found[piece, None if writer is node else writer] = count
        return sum(found.values())

    def _state(self, place: int) -> State:
        at = bisect_left(self.states, place, key=lambda entry: entry[0])
        return self.states[at - 1][1]


class Observer:
    """Watches a run, node by node, and records its facts."""

    def __init__(self, program: Program, start: State) -> None:
        nodes = list(program.graph.nodes)
        self.program = program
        self.facts = RunFacts({node: i for i, node in enumerate(nodes)}, states=[(-1, start)])
        self.writer: dict[fx.Node, fx.Node] = {}  # of the version that is there now
        self.members: dict[int, list[fx.Node]] = {}  # by piece of memory
        self._refs: dict[int, tuple[int, StorageWeakRef]] = {}  # a piece of memory and its number
        own = [*program.module.parameters(), *program.module.buffers()]
        self.own = {self._piece(t) for t in own if t.layout == torch.strided}
        for node in nodes:
            for source in node.all_input_nodes:
                self.facts.last[source] = self.facts.place[node]

    def enter(self, node: fx.Node, values: dict[fx.Node, Any]) -> list[Any]:
        """Records the inputs of a node before it runs."""
        facts = self.facts
        facts.reads[node] = {u: self.writer[u] for u in node.all_input_nodes}
        before: list[Any] = [
            (t, written_to(t)) for u in node.all_input_nodes for t in tensors(values[u])
        ]
        module = self.program.submodule(node) if node.op == "call_module" else None
        return [before, module, _memory(module)]

    def leave(self, node: fx.Node, value: Any, seen: list[Any], state: State) -> None:
        """Records the effects of a node after it ran."""
        before, module, memory = seen
        facts = self.facts
        written = frozenset(self._piece(t) for t, count in before if written_to(t) != count)
        if written:
            self._write(node, written)
        if _memory(module) != memory:
            self._give_up(f"{node.target} changes its own state")
        if _sets_mode(node):
            self._give_up(f"{node.name} sets a mode of torch")
        if not same(state, facts.states[-1][1]):
            facts.states.append((facts.place[node], state))
        self.writer[node] = node
        facts.pieces[node] = {}
        for tensor in _looked_into(value):
            if tensor is None:
                self._give_up(f"{node.name} returns what cannot be looked into")
                continue
            piece = self._piece(tensor)
            facts.pieces[node][piece] = tensor.untyped_storage().nbytes()
            self.members.setdefault(piece, []).append(node)

    def _write(self, node: fx.Node, written: frozenset[int]) -> None:
        """Makes new versions of all values in a piece of memory (rule 2)."""
        facts = self.facts
        members = {u for piece in written for u in self.members[piece]}
        facts.last_write.update(dict.fromkeys(written, facts.place[node]))
        facts.writes[node] = {u: self.writer[u] for u in members}
        self.writer.update(dict.fromkeys(members, node))
        if written & self.own:
            self._give_up(f"{node.name} writes into the program's own tensors")
        if any(len(facts.pieces[u]) > 1 for u in members):
            self._give_up(f"{node.name} writes into one of several tensors")

    def _give_up(self, why: str) -> None:
        self.facts.whole = self.facts.whole or why

    def _piece(self, tensor: Tensor) -> int:
        """Numbers a piece of memory; the reference keeps its identity unique."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._refs:
            weak = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
            self._refs[storage._cdata] = (len(self._refs), weak)
        return self._refs[storage._cdata][0]


def _sets_mode(node: fx.Node) -> bool:
    """Whether a call sets a mode of torch for later calls, not only inside itself."""
    if node.op != "call_function" or isinstance(node.target, torch._ops.HigherOrderOperator):
        return False
    return any(mode in str(node.target) for mode in _MODES)


def _looked_into(value: Any) -> Iterator[Tensor | None]:
    """Iterates over the tensors of a value, and None for each part that may hide some."""
    for leaf in pytree.tree_leaves(value):
        if isinstance(leaf, Tensor):
            plain = type(leaf) in (Tensor, nn.Parameter) and leaf.layout == torch.strided
            yield leaf if plain else None
        elif not isinstance(leaf, (*_PLAIN, torch.dtype, torch.device, torch.Size)):
            yield None


def written_to(tensor: Tensor) -> int:
    """Returns how often a tensor's memory was written to; an inference tensor never is."""
    return 0 if tensor.is_inference() else tensor._version


def _memory(module: nn.Module | None) -> list[Any]:
    """Lists what a module may keep from one call to the next."""
    if module is None:
        return []
    held = [*module.parameters(), *module.buffers()]
    found: list[Any] = [(id(t), written_to(t)) for t in held]
    for part in module.modules():
        if not (is_own(part) or type(part).__module__.startswith("torch.")):
            found.append([(name, id(value)) for name, value in vars(part).items()])
    return found
