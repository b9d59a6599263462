"""Runs many subnets on the same inputs, and computes once what some of them agree in.

1. Two subnets agree at a node if they compute it from the same parts of the same weights, with the
   same numbers, of the same values: its number is then the same (`identities`).
2. Subnets are run in the order of these numbers. Where the next ones part from the one that runs,
   the values that they read on are kept; they go on from there.
3. What is kept takes at most `memory` bytes; what does not fit is computed again. Values that a
   later node wrote into are known by their versions, and computed again as well.
4. Random numbers go on as they would have: their state is kept with the values.
5. A node that no output of a subnet follows is not run, and agrees with all that do not run it. A
   choice is what it takes: subnets that take the same go on agreeing.
6. BatchNorms have the moments that their subnet has on the calibration set: pooled, and kept by the
   number of their node, so that subnets that agree so far share them too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from gfx.errors import PreconditionError
from gfx.ir.choice_nodes import alive
from gfx.ir.execute import copied
from gfx.ir.interpreter import Get, Interpreter, Values
from gfx.ir.preserve import devices_of
from gfx.ir.random_state import Chance, State, seed_torch
from gfx.train.search.layer_widths import LayerWidths
from gfx.train.supernet.assignments import Assignment
from gfx.train.supernet.pooled_moments import Moments, measure, tracks
from gfx.train.supernet.supernet_module import Supernet

__all__ = ["SharedPrefixes"]

_NUMBERS = 1_000_000  # of nodes that are told apart
_DEAD = -1  # the number of what is not run
Widths = Assignment
Inputs = tuple[Any, ...]


@dataclass
class _Kept:
    """Values before a node: of each batch, with the random state, and the versions of tensors."""

    place: int
    runs: list[Values]
    chance: State
    versions: list[int]
    bytes: int

    @property
    def whole(self) -> bool:
        """Whether nothing wrote into the values since."""
        return [t._version for t in _tensors(self.runs)] == self.versions


class SharedPrefixes:
    """Runs subnets of one supernet, in eval mode and without gradients.

    The caller keeps the supernet's widths, modes and buffers, and the random state.

    Example:
        >>> import gfx, torch
        >>> net = gfx.supernet(gfx.zoo.build("dcgan", ngf=8), widths=[0.5, 1.0])
        >>> prefixes, nets = SharedPrefixes(net), [net.largest(), net.smallest()]
        >>> z = torch.randn(2, 100, 1, 1)
        >>> prefixes.calibrate(nets, [(z,)])
        >>> [(number, image.shape) for number, image in prefixes.outputs(nets, (z,))]
        [(0, torch.Size([2, 3, 64, 64])), (1, torch.Size([2, 3, 64, 64]))]
    """

    def __init__(self, net: Supernet, *, memory: int = 1 << 30, seed: int = 0) -> None:
        self.net, self.memory, self.seed = net, memory, seed
        self.graph = net.subnet_graph
        self.code = self.graph.every
        self.runner = _Runner(self.code)
        self.nodes = list(self.code.graph.nodes)
        self._begin = sum(node.op == "placeholder" for node in self.nodes)
        self._layers = LayerWidths(self.graph)
        self._follows = self._layers.follows
        self._places = {node: place for place, node in enumerate(self.nodes)}
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._chance = Chance(devices_of(net.program))
        self.norms = self._norms()
        self._measured: dict[int, tuple[Tensor, Tensor]] = {}
        self.ran = 0  # nodes that were run, once for each batch

    def trim(self) -> None:
        """Forgets numbers and moments, where there are too many; `calibrate` measures again."""
        if len(self._numbers) > _NUMBERS:
            self._numbers.clear()
            self._measured.clear()

    def identities(self, widths: Widths) -> tuple[int, ...]:
        """Numbers the nodes; equal numbers are equal values (rules 1 and 5)."""
        units, found = self.net.units(widths), list[int]()
        options = self.graph.options_of(units)
        here = alive(self.graph.when, options) if options else None
        taken = dict(zip(self.graph.choices, options, strict=True))
        for place, node in enumerate(self.nodes):
            if here is not None and node not in here:
                found.append(_DEAD)
                continue
            if node in taken:
                found.append(found[self._places[_operand(node, taken[node])]])
                continue
            own = tuple(units[group] for group in self._follows[place])
            read = tuple(found[self._places[each]] for each in node.all_input_nodes)
            found.append(self._numbers.setdefault((place, own, read), len(self._numbers)))
        return tuple(found)

    def calibrate(self, nets: Sequence[Widths], batches: Sequence[Inputs]) -> None:
        """Measures the BatchNorms of subnets that have no moments yet (rule 5)."""
        if not self.norms:
            return
        end = max(self.norms) + 1
        missing = [
            net
            for net, numbers in ((net, self.identities(net)) for net in nets)
            if any(
                numbers[place] not in self._measured
                for place in self.norms
                if numbers[place] != _DEAD
            )
        ]
        for _ in self._walk(missing, batches, end, measuring=True):
            pass

    def moments(self, widths: Widths) -> Moments:
        """Returns the moments that `calibrate` measured for a subnet."""
        numbers = self.identities(widths)
        return {
            path: self._measured[numbers[place]]
            for place, path in self.norms.items()
            if numbers[place] != _DEAD
        }

    def outputs(self, nets: Sequence[Widths], inputs: Inputs) -> Iterator[tuple[int, Any]]:
        """Yields the number of a net, and its output on a batch; nets that agree come together."""
        for number, runs in self._walk(nets, [inputs], len(self.nodes)):
            (values,) = runs
            yield number, self.code.graph.process_outputs(values[self.nodes[-1]])

    def _walk(
        self,
        nets: Sequence[Widths],
        batches: Sequence[Inputs],
        end: int,
        *,
        measuring: bool = False,
    ) -> Iterator[tuple[int, list[Values]]]:
        """Runs nets up to a node, in order (rule 2); yields the values that are left."""
        numbers = [self.identities(net)[:end] for net in nets]
        order = sorted(range(len(nets)), key=numbers.__getitem__)
        # the last node is always run: equal nets are
        agree = [min(_common(numbers[a], numbers[b]), end - 1) for a, b in pairwise(order)] + [0]
        kept: list[_Kept] = []
        self._layers.begin(self.net.units(self.net.largest()))
        for at, number in enumerate(order):
            while kept and (kept[-1].place > agree[at - 1] or not kept[-1].whole):
                kept.pop()
            self.runner.begin(self.graph.choices, self.net.units(nets[number]), numbers[number])
            place, runs = self._resumed(kept, batches)
            self._hand_out(nets[number], numbers[number], place, measuring=measuring)
            for mark in _marks(agree[at:], place, self._begin):
                self._run(runs, place, mark, numbers[number], measuring=measuring)
                place = mark
                self._keep(kept, mark, runs)
            self._run(runs, place, end, numbers[number], measuring=measuring)
            yield number, runs

    @torch.no_grad()
    def _resumed(self, kept: list[_Kept], batches: Sequence[Inputs]) -> tuple[int, list[Values]]:
        """Returns where to go on, and from which values; without any, the inputs."""
        if kept:
            self._chance.set(kept[-1].chance)
            return kept[-1].place, [dict(values) for values in kept[-1].runs]
        seed_torch(self.seed)
        runs: list[Values] = []
        for inputs in batches:
            values: Values = {}
            self.runner.start(copied(inputs))
            self.runner.step_through(values, self.nodes[: self._begin])
            runs.append(values)
        return self._begin, runs

    def _keep(self, kept: list[_Kept], place: int, runs: list[Values]) -> None:
        """Keeps values, if they fit (rule 3); tensors that are kept already take nothing more."""
        found = list(_tensors(runs))
        held = {id(t) for t in _tensors(kept[-1].runs)} if kept else set()
        size = sum(t.numel() * t.element_size() for t in found if id(t) not in held)
        if sum(each.bytes for each in kept) + size > self.memory:
            return
        copies = [dict(values) for values in runs]
        kept.append(_Kept(place, copies, self._chance.get(), [t._version for t in found], size))

    @torch.no_grad()
    def _run(
        self,
        runs: list[Values],
        first: int,
        last: int,
        numbers: tuple[int, ...],
        *,
        measuring: bool,
    ) -> None:
        self.ran += (last - first) * len(runs)
        if not measuring:
            self.runner.step_through(runs[0], self.nodes[first:last], self.runner.taken)
            return
        for place in range(first, last):
            node = self.nodes[place]
            if place in self.norms and numbers[place] != _DEAD:
                layer = self.code.get_submodule(self.norms[place])
                read = [values[node.all_input_nodes[0]] for values in runs]
                self._measured[numbers[place]] = measure(layer, read)
            for values in runs:
                self.runner.step_through(values, [node], self.runner.taken)

    def _hand_out(
        self, net: Widths, numbers: tuple[int, ...], first: int, *, measuring: bool
    ) -> None:
        """Gives the layers from a node on the tensors of a subnet, and its known moments."""
        self._layers.set(self.net.units(net), first)
        if not measuring:
            for place, path in self.norms.items():
                if numbers[place] == _DEAD:
                    continue
                layer, known = self.code.get_submodule(path), self._measured[numbers[place]]
                vars(layer)["running_mean"], vars(layer)["running_var"] = known

    def _norms(self) -> dict[int, str]:
        """Finds the BatchNorms with running statistics: place of the node, path."""
        self.graph.evaluating()
        self.code.eval()
        found: dict[int, str] = {}
        for place, node in enumerate(self.nodes):
            if node.op == "call_module" and tracks(self.code.get_submodule(str(node.target))):
                if str(node.target) in found.values():
                    raise PreconditionError(
                        f"{node.target} is called more than once, and each call has moments of its "
                        "own; give every call a BatchNorm"
                    )
                found[place] = str(node.target)
        return found


class _Runner(Interpreter):
    """Runs nodes; a layer is looked up once, and not at each of thousands of calls."""

    options: Mapping[fx.Node, int]
    dead: frozenset[fx.Node]

    def begin(
        self, choices: Sequence[fx.Node], units: Sequence[int], numbers: Sequence[int]
    ) -> None:
        """Begins a subnet: which options it takes, and what is not run (rule 5)."""
        self.options = dict(zip(choices, units[len(units) - len(choices) :], strict=True))
        pairs = zip(self.nodes, numbers, strict=False)
        self.dead = frozenset(node for node, number in pairs if number == _DEAD)

    def taken(self, node: fx.Node, get: Get) -> Any:
        """Runs a node, if it is alive; a choice is what it takes."""
        if node in self.dead:
            return None
        if node in self.options:
            return get(_operand(node, self.options[node]))
        return self.value(node, get)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Calls a layer."""
        layers = vars(self).setdefault("layers", {})
        if target not in layers:
            layers[target] = self.fetch_attr(target)
        return layers[target](*args, **kwargs)


def _operand(node: fx.Node, option: int) -> fx.Node:
    operand = node.args[option]
    assert isinstance(operand, fx.Node)
    return operand


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Returns how many numbers are the same from the beginning on."""
    pairs = enumerate(zip(one, other, strict=True))
    return next((place for place, (a, b) in pairs if a != b), len(one))


def _marks(agree: Sequence[int], place: int, least: int) -> list[int]:
    """Lists where later nets part from the one that runs, after a place, in order."""
    found: list[int] = []
    for mark in agree:
        if found and mark >= found[-1]:
            continue
        if mark <= max(place, least):
            break
        found.append(mark)
    return found[::-1]


def _tensors(runs: Sequence[Values]) -> Iterator[Tensor]:
    for values in runs:
        for value in values.values():
            if isinstance(value, Tensor):
                yield value
            elif not isinstance(value, int | float | str | type(None)):
                yield from (t for t in pytree.tree_leaves(value) if isinstance(t, Tensor))
