"""Runs a program on one batch: the whole, to record or to keep values, or only what changed."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from gfx.compression.probe.changes import Steps
from gfx.compression.probe.observer import Observer, RunFacts
from gfx.compression.probe.suffix import Entangled, Suffix, SuffixPlan, changed_call
from gfx.compression.probe.value_cache import Key, ValueCache, Version
from gfx.ir.execute import copied
from gfx.ir.interpreter import Get, Interpreter, Values
from gfx.ir.preserve import devices_of, preserved
from gfx.ir.program import Program
from gfx.ir.random_state import Chance

__all__ = ["Inputs", "Runs"]

Inputs = tuple[Any, ...]
Look = Callable[[fx.Node, Any], None]


class Runs:
    """Runs the nodes of a program; keeps values, and counts how often each node ran.

    The caller preserves the program's modes and the random state (see `evaluating`).
    """

    def __init__(self, program: Program, seed: int, memory: int) -> None:
        self.program, self.seed = program, seed
        self.held = ValueCache(memory)
        self.forwards: Counter[fx.Node] = Counter()  # runs of unchanged nodes
        self.suffixes: Counter[fx.Node] = Counter()  # runs of nodes for a change
        self.chance = Chance(devices_of(program))
        self.interpreter = Interpreter(program.module)

    def observe(self, batch: int, inputs: Inputs) -> tuple[Any, RunFacts]:
        """Runs the program, keeps what changes of layers will read, and returns the output."""
        self._start(inputs)
        watch = Observer(self.program, self.chance.get())
        values: Values = {}

        def see(node: fx.Node, get: Get) -> Any:
            seen = watch.enter(node, values)
            if self._worth_keeping(node):
                self._offer(batch, watch.facts.reads[node].items(), values)
            value = self.interpreter.value(node, get)
            watch.leave(node, value, seen, self.chance.get())
            # an overwritten value is lost; it is computed again on demand
            self.held.drop((batch, v) for v in watch.facts.writes.get(node, {}).items())
            return value

        with preserved(self.program.module):
            output = self.interpreter.step_through(values, see=see)
        self.forwards.update(self.program.graph.nodes)
        if watch.facts.whole:
            self.forget(batch)
        return copied(self.program.graph.process_outputs(output)), watch.facts

    def collect(self, batch: int, inputs: Inputs, facts: RunFacts, needs: set[Version]) -> None:
        """Keeps the needed values, by running the program as far as it takes."""
        missing = {v for v in needs if (batch, v) not in self.held}
        if not missing:
            return
        needed: set[Key] = {(batch, v) for v in needs}
        self.held.make_room(facts.size(missing), needed)
        made: dict[fx.Node, list[Version]] = {}
        for version in missing:
            made.setdefault(version[1], []).append(version)

        def see(node: fx.Node, get: Get) -> Any:
            self.held.part((batch, v) for v in facts.writes.get(node, {}).items())
            value = self.interpreter.value(node, get)
            self.forwards[node] += 1
            for version in made.get(node, ()):
                self.held.keep((batch, version), value if version[0] is node else get(version[0]))
            return value

        self._start(inputs)
        # kept values are never written to: after the last needed one the run ends
        end = max(facts.place[node] for node in made) + 1
        self.interpreter.step_through({}, self.interpreter.nodes[:end], see)

    def value(self, batch: int, inputs: Inputs, facts: RunFacts, version: Version) -> Any:
        """Returns a copy of one value of the original program."""
        if version[0].op == "get_attr":
            return copied(self.interpreter.value(version[0], lambda node: node))
        with preserved(self.program.module):
            self.collect(batch, inputs, facts, {version})
        return copied(self.held[batch, version])

    def changed(self, batch: int, inputs: Inputs, facts: RunFacts, found: SuffixPlan) -> Any:
        """Runs the nodes that a change reaches, and returns the output if it is one of them.

        Raises: Entangled if the whole program must run; InputError if it does not run.
        """
        self.collect(batch, inputs, facts, found.needs)
        held = self.held
        run = Suffix(found, facts, lambda v: held[batch, v], self.interpreter, self.chance)
        output = None
        for node in found.nodes:
            try:
                output = run.run(node)
            except Entangled as error:
                if error.spoilt:
                    self.forget(batch)
                raise
            self.suffixes[node] += 1
        if not found.reaches_output:
            return None
        output = pytree.tree_map_only(Tensor, run.freed, output)
        return self.program.graph.process_outputs(output)

    def whole(self, batch: int, inputs: Inputs, steps: Steps, look: Look | None = None) -> Any:
        """Runs the whole changed program, and returns its output; `look` sees every value.

        Raises: InputError if it does not run.
        """

        def see(node: fx.Node, get: Get) -> Any:
            value = changed_call(self.interpreter, node, steps, get)
            if look is not None:
                look(node, value)
            return value

        torch.manual_seed(self.seed)
        with preserved(self.program.module):
            output = self.interpreter.run(*copied(inputs), see=see)
        self.suffixes.update(self.program.graph.nodes)
        return copied(output)

    def forget(self, batch: int) -> None:
        """Drops all values of a batch."""
        self.held.drop([key for key in self.held.values if key[0] == batch])

    def _start(self, inputs: Inputs) -> None:
        torch.manual_seed(self.seed)
        self.interpreter.start(copied(inputs))

    def _offer(self, batch: int, versions: Iterable[Version], values: Values) -> None:
        for version in versions:
            if version[0].op != "get_attr" and (batch, version) not in self.held:
                self.held.offer((batch, version), values[version[0]])

    def _worth_keeping(self, node: fx.Node) -> bool:
        """Whether a change is likely to begin at a node, or to reach only one side of it."""
        sources = [u for u in node.all_input_nodes if u.op != "get_attr"]
        if len(sources) > 1 or len(sources) < len(node.all_input_nodes):
            return node.op != "output"
        if node.op != "call_module":
            return False
        return any(p.ndim > 1 for p in self.program.submodule(node).parameters())
