"""Plans and runs the suffix of a change: the nodes that it reaches, from values of the others."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import fx

from gfx.compression.probe.changes import Steps
from gfx.compression.probe.observer import RunFacts, written_to
from gfx.compression.probe.value_cache import Version, memory_of, moved
from gfx.errors import InputError
from gfx.ir.execute import tensors
from gfx.ir.interpreter import Get, Interpreter
from gfx.ir.random_state import Chance, State, same

__all__ = ["Entangled", "Suffix", "SuffixPlan", "changed_call", "plan"]


class Entangled(Exception):
    """Says that a change cannot run alone: the whole changed program must run."""

    def __init__(self, why: str, spoilt: bool = False) -> None:
        super().__init__(why)
        self.spoilt = spoilt  # kept values were written to


@dataclass
class SuffixPlan:
    """Holds the nodes that must run for a change, and the values that they read."""

    steps: Steps
    nodes: list[fx.Node] = field(default_factory=list)  # that the change reaches, in order
    needs: set[Version] = field(default_factory=set)  # values of nodes that it does not reach
    frees: dict[fx.Node, list[fx.Node]] = field(default_factory=dict)  # last reads
    whole: str = ""  # why the whole program must run instead

    @property
    def reaches_output(self) -> bool:
        """Whether the output changes."""
        return any(node.op == "output" for node in self.nodes[-1:])


def plan(facts: RunFacts, steps: Steps) -> SuffixPlan:
    """Follows a change through the program.

    1. A node is reached if the change touches it, if a node that it reads is reached, or if the
       version that it reads was written by a node that is reached.
    2. Where a reached node writes into memory that an unreached one allocated, all values in it
       that are read later are needed as they were before, for a copy to write into.
    """
    found = SuffixPlan(steps, whole=facts.whole)
    reached: set[fx.Node] = set()
    start = min((facts.place[node] for node in steps), default=len(facts.place))
    for node in islice(facts.place, start, None):
        reads = facts.reads[node]
        if node not in steps and not any(_in(reached, version) for version in reads.items()):
            continue
        reached.add(node)
        found.nodes.append(node)
        found.needs.update(v for v in reads.items() if not _in(reached, v))
        for u, w in facts.writes.get(node, {}).items():  # rule 2
            if facts.last.get(u, -1) >= facts.place[node] and not _in(reached, (u, w)):
                found.needs.add((u, w))
    found.needs = set() if found.whole else {v for v in found.needs if v[0].op != "get_attr"}
    found.frees = _frees(facts, found.nodes)
    return found


def _in(reached: set[fx.Node], version: Version) -> bool:
    return version[0] in reached or version[1] in reached


def _frees(facts: RunFacts, nodes: list[fx.Node]) -> dict[fx.Node, list[fx.Node]]:
    """Lists, for each node, the values that are read for the last time there."""
    last = {u: n for n in nodes for u in (n, *facts.reads[n], *facts.writes.get(n, {}))}
    found: dict[fx.Node, list[fx.Node]] = {}
    for value, node in last.items():
        found.setdefault(node, []).append(value)
    return found


def changed_call(interpreter: Interpreter, node: fx.Node, steps: Steps, get: Get) -> Any:
    """Runs a node of a changed program.

    Raises: InputError if it does not run.
    """
    try:
        if node in steps:
            return steps[node](interpreter, get)
        return interpreter.value(node, get)
    except Exception as error:
        where = node.target if node.op == "call_module" else node.name
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the changed model does not run at {where}: {text}; what stands for a layer must take "
            "the layer's input and give an output of its shape"
        ) from error


class Suffix:
    """One run of the nodes that a change reaches.

    `kept` returns the values of other nodes, by version; they are never written to.
    """

    def __init__(
        self,
        found: SuffixPlan,
        facts: RunFacts,
        kept: Callable[[Version], Any],
        interpreter: Interpreter,
        chance: Chance,
    ) -> None:
        self.plan, self.facts, self.kept = found, facts, kept
        self.interpreter, self.chance = interpreter, chance
        self.values: dict[fx.Node, Any] = {}
        self._copies: dict[int, torch.UntypedStorage] = {}
        self._foreign: dict[int, int] = {}  # memory of kept values: its number in the facts
        self._state: State | None = None  # of the generators, as far as it is known
        self._own_chance = False  # whether the changed program draws other numbers

    def run(self, node: fx.Node) -> Any:
        """Runs one node, the next of the plan.

        Raises: Entangled if it wrote to a kept value, or shares one that is written to later, or if
        it changed the random numbers of later nodes.
        """
        for version in self.facts.writes.get(node, {}).items():
            if version in self.plan.needs and version[0] not in self.values:
                self.values[version[0]] = self._writable(version)
        given = {u: self._given(u, w) for u, w in self.facts.reads[node].items()}
        before = [(t, written_to(t)) for value in given.values() for t in tensors(value)]
        self._seed(node)
        value = changed_call(self.interpreter, node, self.plan.steps, given.__getitem__)
        for tensor, count in before:
            if written_to(tensor) != count and self._kept_in(tensor):
                raise Entangled(f"{node.name} writes to its input", spoilt=True)
        for number in self._kept_in(value):
            if self.facts.last_write.get(number, -1) > self.facts.place[node]:
                raise Entangled(f"{node.name} shares memory that is written to later")
        self._check_seed(node)
        self.values[node] = value
        for done in self.plan.frees.get(node, ()):
            self.values.pop(done, None)
        return value

    def _writable(self, version: Version) -> Any:
        """Copies a value's memory, the same copy for all values that share this memory.

        They may be kept apart, but the memory of each held all of them.
        """
        value = self.kept(version)
        (number,) = self.facts.pieces[version[0]]  # rule 3 of gfx/compression/probe/observer.py
        (source,) = memory_of(value)
        pieces = {source: self._copies[number]} if number in self._copies else {}
        copy = moved(value, pieces)
        self._copies[number] = pieces[source]
        return copy

    def freed(self, tensor: torch.Tensor) -> torch.Tensor:
        """Clones a tensor that lies in the memory of a kept value."""
        return tensor.clone() if self._kept_in(tensor) else tensor

    def _given(self, node: fx.Node, writer: fx.Node) -> Any:
        if node in self.values:
            return self.values[node]
        if node.op == "get_attr":
            value = self.interpreter.value(node, self.values.__getitem__)
        else:
            value = self.kept((node, writer))
        self._foreign.update(zip(memory_of(value), self.facts.pieces[node], strict=True))
        return value

    def _kept_in(self, value: Any) -> list[int]:
        """Lists the kept memory that a value lies in, by its number in the facts."""
        return [self._foreign[piece] for piece in memory_of(value) if piece in self._foreign]

    def _seed(self, node: fx.Node) -> None:
        """Sets the random state that a node would see in a run of the whole program."""
        state = self.facts.before(node)
        if not self._own_chance and state is not self._state:
            self.chance.set(state)

    def _check_seed(self, node: fx.Node) -> None:
        """Checks that a node drew as many random numbers as in the original."""
        expected = self.facts.after(node)
        self._state = self.chance.get()
        if self._own_chance or same(self._state, expected):
            self._state = expected
            return
        if self.facts.draws_after(node):
            raise Entangled(f"{node.name} draws other random numbers")
        self._own_chance = True
