"""Replays a program under one change at a time, from cached values of the unchanged nodes.

The program runs once on each batch. Of its values, those that a change of a layer reads are kept,
as far as they fit; other values that a change needs are computed again, in one run for as many
changes as fit. A changed run computes only the nodes that the change reaches, and its outputs are
those of a run of the whole changed program, bit for bit.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import fx

from gfx.compression.probe.changes import ProbeChange
from gfx.compression.probe.finite import check_finite
from gfx.compression.probe.observer import RunFacts
from gfx.compression.probe.runs import Inputs, Runs
from gfx.compression.probe.suffix import Entangled, SuffixPlan, plan
from gfx.compression.probe.value_cache import Version
from gfx.costs import cost_of
from gfx.errors import InputError
from gfx.ir.execute import copied, parts, require_values, unrunnable
from gfx.ir.preserve import evaluating, preserved
from gfx.ir.program import Program
from gfx.progress import out_of_time, step, stopped

__all__ = ["Metric", "Replay"]

Metric = Callable[[Any, Any], float]  # (original output, changed output) → how far apart
Use = Callable[[int, int, Any], None]  # (number of a change, number of a batch, output)
Fail = Callable[[int, InputError], None]  # (number of a change, why it fails)


class Replay:
    """Measures how changes of a program move its output.

    The program and the global random state are left unchanged; it runs in eval mode. A batch
    on which the graph does not run is cut into batches of the example inputs' size.

    Kept values take at most `memory` bytes, or what a single change reads if that is more; a run
    takes a forward's memory besides. Values that were not kept cost a forward, as far as needed,
    for as many changes as fit: ask for many at once (`run_all`, `damages`).

    Raises: PreconditionError if the program is on the meta device; InputError if it does not run
    on a batch, or if its output is not finite there (it names the layer).

    Example:
        >>> import gfx
        >>> from gfx.compression.probe import Replacement
        >>> from gfx.io.data import synthetic
        >>> program = gfx.trace(gfx.zoo.build("dcgan", ngf=4))
        >>> replay = Replay(program, synthetic(program, 2))
        >>> last = [n for n in program.graph.nodes if n.op == "call_module"][-1]
        >>> [y.shape for y in replay.run(Replacement({last: torch.sigmoid}))]
        [torch.Size([1, 3, 64, 64]), torch.Size([1, 3, 64, 64])]
    """

    def __init__(
        self,
        program: Program,
        batches: Sequence[Inputs],
        *,
        seed: int = 0,  # of the random numbers that a forward draws
        memory: int = 2 << 30,  # bytes of activations to keep between runs
    ) -> None:
        self.program = program
        self.batches: list[Inputs] = []
        self.outputs: list[Any] = []  # of the program itself, one for each of `batches`
        self._facts: list[RunFacts] = []
        self._runs = Runs(program, seed, memory)
        if not batches:
            raise InputError("no batch is given to look at; give at least one")
        with self._undisturbed():
            for number, inputs in enumerate(batches):
                self._first(number, inputs)

    def run(self, change: ProbeChange) -> list[Any]:
        """Returns the outputs of the changed program, one for each batch."""
        return self.run_all([change])[0]

    def run_all(self, changes: Sequence[ProbeChange]) -> list[list[Any]]:
        """Returns the outputs of the program under each change alone.

        They do not depend on the order of the changes, nor on the other changes.
        """
        found: list[list[Any]] = [[] for _ in changes]
        self.each(changes, lambda number, _, output: found[number].append(output))
        return found

    def damage(self, change: ProbeChange, metric: Metric) -> float:
        """Returns metric(original output, changed output), averaged over the batches."""
        return self.damages([change], metric)[0]

    def damages(
        self, changes: Sequence[ProbeChange], metric: Metric, fail: Fail | None = None
    ) -> list[float]:
        """Returns the damage of each change alone.

        `fail` is that of `each`, and is called for outputs that the metric refuses, too; the damage
        returned for such a change means nothing. Where the time was over before a change was
        measured, its damage is NaN; it is a mean over the batches that there was time for.
        """
        totals, counts = [0.0] * len(changes), [0] * len(changes)

        def use(number: int, batch: int, output: Any) -> None:
            counts[number] += 1
            try:
                # a metric may write into its operands
                totals[number] += float(metric(copied(self.outputs[batch]), output))
            except InputError as error:
                if fail is None:
                    raise
                fail(number, error)

        self.each(changes, use, fail)
        return [t / n if n else math.nan for t, n in zip(totals, counts, strict=True)]

    def each(
        self,
        changes: Sequence[ProbeChange],
        use: Use,
        fail: Fail | None = None,
        names: Sequence[str] = (),
    ) -> None:
        """Calls `use(number of the change, number of the batch, output)`, batch by batch.

        Within a batch the changes come in the order in which the program meets them. With `fail`, a
        change that fails calls `fail(number of the change, error)` instead of raising, and is left
        out of the batches that follow. `names` are those of the changes, for who listens to
        progress.

        Raises: InputError if the changed program does not run, or if its output is not finite.
        """
        steps = [change.steps(self.program) for change in changes]
        failed: set[int] = set()
        total = len(steps) * len(self.batches)
        with self._undisturbed(changes), step("measuring damage", total) as counted:
            for batch, inputs in enumerate(self.batches):
                facts = self._facts[batch]
                plans = {i: plan(facts, s) for i, s in enumerate(steps) if i not in failed}
                for portion in self._portions(facts, plans):
                    needs = {v for i in portion for v in plans[i].needs}
                    self._runs.collect(batch, inputs, facts, needs)
                    for i in portion:
                        if out_of_time():
                            stopped("not every change was measured, or not on every batch")
                            return
                        try:
                            output = self._changed(batch, plans[i])
                        except InputError as error:
                            if fail is None:
                                raise
                            failed.add(i)
                            fail(i, error)
                        else:
                            use(i, batch, output)
                        counted.advance(what=f"measuring damage: {names[i]}" if names else None)

    def inputs(self, node: fx.Node) -> Iterator[Any]:
        """Iterates over what a layer reads, its first input on each batch, as copies."""
        source = node.all_input_nodes[0]
        for batch, inputs in enumerate(self.batches):
            facts = self._facts[batch]
            with self._undisturbed():
                value = self._runs.value(batch, inputs, facts, (source, facts.reads[node][source]))
            yield value

    def affected(self, change: ProbeChange) -> tuple[fx.Node, ...]:
        """Lists the nodes that must run again under a change, in order (on the first batch)."""
        found = plan(self._facts[0], change.steps(self.program))
        return tuple(self.program.graph.nodes if found.whole else found.nodes)

    def macs(self, change: ProbeChange) -> int:
        """Counts the multiply-accumulates of one run of the nodes that a change reaches.

        They are counted exactly, for the original nodes, at the batch of the example inputs.
        """
        return self._priced(Counter(self.affected(change)))

    @property
    def spent(self) -> dict[str, int]:
        """The multiply-accumulates run so far: `forwards` of the program, `suffixes` for changes.

        They are counted as by `macs`.
        """
        runs = self._runs
        return {"forwards": self._priced(runs.forwards), "suffixes": self._priced(runs.suffixes)}

    def _first(self, number: int, inputs: Inputs) -> None:
        """Runs the program on a batch, or on parts of it, and records the facts of the run."""
        batch = len(self.batches)
        try:
            output, facts = self._runs.observe(batch, inputs)
        except Exception as error:
            self._runs.forget(batch)
            pieces = parts(self.program, inputs)
            if len(pieces) < 2:
                raise unrunnable(self.program, inputs, number, error) from error
            for piece in pieces:
                self._first(number, piece)
            return
        check_finite(self._runs, number, inputs, {}, output)
        self.batches.append(inputs)
        self.outputs.append(output)
        self._facts.append(facts)

    def _portions(self, facts: RunFacts, plans: Mapping[int, SuffixPlan]) -> Iterator[list[int]]:
        """Splits the changes, from the first layer to the last, into portions whose values fit."""
        starts = {i: facts.place[p.nodes[0]] if p.nodes else 0 for i, p in plans.items()}
        portion: list[int] = []
        needs: set[Version] = set()
        for i in sorted(plans, key=starts.__getitem__):
            if portion and facts.size(needs | plans[i].needs) > self._runs.held.limit:
                yield portion
                portion, needs = [], set()
            portion.append(i)
            needs |= plans[i].needs
        if portion:
            yield portion

    def _changed(self, batch: int, found: SuffixPlan) -> Any:
        """Returns the output of a changed program on a batch."""
        inputs, facts = self.batches[batch], self._facts[batch]
        try:
            if found.whole:
                raise Entangled(found.whole)
            # even where no output is reached: the change might write, or draw random numbers
            output = self._runs.changed(batch, inputs, facts, found)
            if not found.reaches_output:
                return copied(self.outputs[batch])
        except Entangled:
            output = self._runs.whole(batch, inputs, found.steps)
        check_finite(self._runs, batch, inputs, found.steps, output)
        return output

    def _priced(self, counts: Counter[fx.Node]) -> int:
        return sum(self._costs.get(node.name, 0) * count for node, count in counts.items())

    @cached_property
    def _costs(self) -> dict[str, int]:
        return {row.node: row.macs.exact for row in cost_of(self.program).nodes}

    @contextmanager
    def _undisturbed(self, changes: Sequence[ProbeChange] = ()) -> Iterator[None]:
        """Restores the state of the program and of the changes' modules."""
        require_values(self.program, "probing")
        modules = {id(m): m for change in changes for m in change.modules()}
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(evaluating(self.program))
            stack.enter_context(preserved(*modules.values()))
            for module in modules.values():
                module.eval()
            yield
