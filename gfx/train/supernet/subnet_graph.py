"""Runs a supernet's graph at some widths, on parts of its tensors.

The graph is the code of a subnet, whose numbers are read from a list. Its layers are copies
without tensors: before each run they are handed the parts of the supernet's own tensors, as views
where that is possible, so that gradients and statistics go where they belong.

Where there are choices, the code is that of the options that are taken; all codes call the same
layers, and the last ones are kept.
"""

import operator
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from torch import Tensor, fx, nn

from gfx.compression.taps import tapped
from gfx.ir.choice_nodes import When, alive, choices_of, either, take_in_graph, when_alive
from gfx.ir.program import Program
from gfx.train.supernet.affine_values import WidthFunction, replaced
from gfx.train.supernet.kept_intervals import UNUSED, Intervals, TensorPart, part_of
from gfx.train.supernet.pooled_moments import Moments
from gfx.train.supernet.read_tensors import refuse_hidden_taps, tensors_read
from gfx.train.supernet.subnet_plan import SubnetPlan

__all__ = ["SIZES", "SubnetGraph"]

SIZES = "subnet_sizes"  # attribute of the code's module that holds the numbers


KnownParts = dict[tuple[int, ...], dict[str, TensorPart]]
Used = Mapping[tuple[int, ...], Sequence[int]]  # by the options that are taken: units of groups
_KNOWN = 64  # subnets whose parts are kept
_CODES = 64  # combinations of options whose code is kept


class SubnetGraph:
    """Runs one plan on the tensors of a module.

    Args:
        plan: of the program that the module is of.
        module: whose tensors are used; it is called nowhere.
        known: parts of tensors by widths, which graphs of one plan share.
        taps: whether the features at the taps are returned beside the output, as `gfx.tapped` does.
    """

    def __init__(
        self, plan: SubnetPlan, module: nn.Module, known: KnownParts, *, taps: bool = False
    ) -> None:
        self.plan, self.module = plan, module
        self._known = known
        pattern = plan.pattern.copy()
        self.functions: list[WidthFunction] = []
        self._write(pattern)
        if taps:
            refuse_hidden_taps(pattern.module)
        code = tapped(pattern.module) if taps else pattern.module
        assert isinstance(code, fx.GraphModule)
        self.every = self.code = code  # with all that choices choose among; what runs
        vars(self.every)[SIZES] = self._numbers = list[Any]()
        self._modes = [
            (layer, module.get_submodule(path))
            for path, layer in self.every.named_modules()
            if path and _has(module, path)
        ]
        # what the graph reads itself may be viewed, as a whole tensor can
        self._read = {str(n.target) for n in self.every.graph.nodes if n.op == "get_attr"}
        self._outermost = [path for path in self._read if "." not in path]
        self.choices = list(choices_of(self.every))
        self.when = when_alive(self.every) if self.choices else {}
        self._reads = tensors_read(self.every, plan.paths) if self.choices else {}
        self._holders = list(self._bind())
        self._parts: dict[str, TensorPart] = {}
        self._codes: dict[tuple[int, ...], fx.GraphModule] = {}
        self._alive: dict[tuple[int, ...], frozenset[str]] = {}

    def set(self, units: Sequence[int]) -> None:
        """Sets a subnet: channels that go together of each group, then the options of choices."""
        self._numbers[:] = [function.at(units) for function in self.functions]
        for (path, name), found in self.plan.attributes.items():
            layer = self.every.get_submodule(path)
            put = {place: function.at(units) for place, function in found.items()}
            setattr(layer, name, replaced(getattr(layer, name), put))
        self._parts = self.parts(units)
        self.code = self._code_of(self.options_of(units))

    def options_of(self, units: Sequence[int]) -> tuple[int, ...]:
        """Returns the options that a subnet takes."""
        return tuple(units[len(self.plan.elastic) :])

    def _code_of(self, options: tuple[int, ...]) -> fx.GraphModule:
        """Returns the code of some options, over the layers that all share."""
        if not options:
            return self.every
        code = self._codes.pop(options, None)
        if code is None:
            graph = deepcopy(self.every.graph)
            take_in_graph(self.every, graph, options)
            code = _over(self.every, graph)
            while len(self._codes) >= _CODES:
                del self._codes[next(iter(self._codes))]
        self._codes[options] = code
        return code

    def tensors_below(self, path: str) -> list[tuple[dict[str, Any], str, Any, str, bool]]:
        """Lists the tensors of a layer, and of those inside of it, or one that the graph reads.

        Returns: where the layer looks for each, its name, where the supernet holds it, its path in
            the plan, and whether the graph reads it.
        """
        held = {id(vars(layer)): prefix for prefix, layer in self.every.named_modules()}
        wholes = [f"{held[id(target)]}.{name}".lstrip(".") for target, name, *_ in self._holders]
        return [
            holder
            for holder, whole in zip(self._holders, wholes, strict=True)
            if whole == path or whole.startswith(f"{path}.")
        ]

    def when_used(self) -> dict[str, When]:
        """Returns when each choice matters: a group is used, or what is chosen among is."""
        counts = {i: len(node.args) for i, node in enumerate(self.choices)}
        found: dict[str, When] = {}
        for number, group in enumerate(self.plan.elastic):
            held = {path for path, dims in self.plan.intervals.items() if _has_part(dims, number)}
            nodes = [node for node, paths in self._reads.items() if paths & held]
            found[group.name] = either((self.when[node] for node in nodes), counts)
        names = self.plan.choices
        return found | {n: self.when[c] for n, c in zip(names, self.choices, strict=True)}

    def parts(self, units: Sequence[int]) -> dict[str, TensorPart]:
        """Returns the part of every tensor that is not used whole, by its path."""
        key = tuple(units)
        found = self._known.get(key)
        if found is None:
            found = self._parts_of({self.options_of(units): units})
            while len(self._known) >= _KNOWN:
                del self._known[next(iter(self._known))]
            self._known[key] = found
        return found

    def _parts_of(self, used: Used) -> dict[str, TensorPart]:
        """Returns the parts that several subnets use: of each tensor, of those that it is in."""
        found: dict[str, TensorPart] = {}
        for path in self.plan.intervals if () in used else {*self.plan.paths.values()}:
            rows = [units for options, units in used.items() if self._uses(path, options)]
            dims = self.plan.intervals.get(path)
            if not rows:
                found[path] = UNUSED
            elif dims is not None:
                most = rows[0] if len(rows) == 1 else np.max(rows, axis=0).tolist()
                part = part_of([dim.size if dim else 0 for dim in dims], dims, most)
                if not part.whole:
                    found[path] = part
        return found

    def _uses(self, path: str, options: tuple[int, ...]) -> bool:
        """Whether a subnet that takes some options uses a tensor, or no subnet does."""
        return not options or path in self._tensors_in(options)

    def _tensors_in(self, options: tuple[int, ...]) -> frozenset[str]:
        """Returns the tensors that are used where some options are taken, or nowhere."""
        found = self._alive.get(options)
        if found is None:
            kept = alive(self.when, options)
            nowhere = {*self.plan.paths.values()}.difference(*self._reads.values())
            read = (paths for node, paths in self._reads.items() if node in kept)
            found = frozenset(nowhere.union(*read))
            while len(self._alive) >= _CODES:
                del self._alive[next(iter(self._alive))]
            self._alive[options] = found
        return found

    def parts_of_parameters(self, used: Used) -> dict[int, TensorPart]:
        """Returns the part of every parameter that is not used whole, by its identity."""
        parts = self._parts_of(used)
        held = [(store[name], path) for _, name, store, path, _ in self._holders if path in parts]
        return {id(value): parts[path] for value, path in held if isinstance(value, nn.Parameter)}

    def run(self, args: Sequence[Any], kwargs: Mapping[str, Any], moments: Moments) -> Any:
        """Runs the subnet on the tensors as they are now; these BatchNorms have moments of it."""
        self.code.training = self.module.training
        for layer, own in self._modes:
            layer.training = own.training
        copies = self._hand_out()
        for path, (mean, variance) in moments.items():
            layer = self.code.get_submodule(path)
            vars(layer)["running_mean"], vars(layer)["running_var"] = mean, variance
        output = self.code(*args, **kwargs)
        for whole, part, cut in copies:
            part.write(whole, cut)
        return output

    def evaluating(self) -> fx.GraphModule:
        """Returns the code in eval mode, with the tensors as they are now."""
        self.code.eval()
        self._hand_out()
        return self.code

    def evaluating_every(self, units: Sequence[int]) -> fx.GraphModule:
        """Returns the code of all that choices choose among, in eval mode, at some widths."""
        self.set(units)
        self._parts, self.code = self._parts_of({(): units}), self.every
        return self.evaluating()

    def _hand_out(self) -> list[tuple[Tensor, TensorPart, Tensor]]:
        """Gives every layer its tensors; returns the copies of buffers, which it may write to."""
        copies = []
        for target, name, store, path, read in self._holders:
            whole, part = store[name], self._parts.get(path)
            if part is None:
                target[name] = whole
                continue
            if part.none:
                continue
            view = part.of(whole)
            cut = view.contiguous() if read else view
            target[name] = cut
            if not isinstance(whole, nn.Parameter) and not (part.is_view and cut is view):
                copies.append((whole, part, cut))
        if self.code is not self.every:  # what a graph reads of the outermost module is its own
            held = vars(self.every)
            vars(self.code).update({name: held[name] for name in self._outermost if name in held})
        return copies

    def _write(self, pattern: Program) -> None:
        """Makes the code read its numbers from a list."""
        graph = pattern.graph
        first = next(node for node in graph.nodes if node.op != "placeholder")
        with graph.inserting_before(first):
            sizes = graph.create_node("get_attr", SIZES)  # a list: graph.get_attr would warn
        for node in list(graph.nodes):
            numbers = self.plan.arguments.get(node.name, {})
            if not numbers or node is sizes:
                continue
            put = {}
            with graph.inserting_before(node):
                for place, function in numbers.items():
                    put[place] = graph.call_function(operator.getitem, (sizes, self._add(function)))
            args, kwargs = replaced((node.args, node.kwargs), put)
            node.args, node.kwargs = args, kwargs
        vars(pattern.module)[SIZES] = []
        pattern.module.recompile()

    def _add(self, function: WidthFunction) -> int:
        if function not in self.functions:
            self.functions.append(function)
        return self.functions.index(function)

    def _bind(self) -> Any:
        """Takes the tensors out of the code's layers; lists where each of them is to come from.

        Yields: where the layer looks for it, its name, where the supernet holds it, its path in the
        plan, and whether the graph reads it.
        """
        for path, layer in self.code.named_modules():
            own = self.module.get_submodule(path) if _has(self.module, path) else None
            for kind in ("_parameters", "_buffers"):
                for name in list(getattr(layer, kind)):
                    # a copy that a removal made of a norm shares its dictionaries: all None
                    if own is None or getattr(own, kind).get(name) is None:
                        continue
                    del getattr(layer, kind)[name]
                    whole = f"{path}.{name}" if path else name
                    known = self.plan.paths.get(whole, whole)
                    yield vars(layer), name, getattr(own, kind), known, whole in self._read


def _over(every: fx.GraphModule, graph: fx.Graph) -> fx.GraphModule:
    """Returns the code of another graph over the very layers of a module."""
    code = fx.GraphModule({}, fx.Graph(), type(every).__name__)
    held = vars(every)
    vars(code).update({kind: held[kind] for kind in ("_modules", "_parameters", "_buffers")})
    vars(code).update({name: value for name, value in held.items() if name not in vars(code)})
    code.graph = graph
    code.meta.update(every.meta)
    return code


def _has_part(dims: Sequence[Intervals | None], group: int) -> bool:
    """Whether what stays of a tensor follows a group."""
    return any(run.group == group for dim in dims if dim is not None for run in dim.runs)


def _has(module: nn.Module, path: str) -> bool:
    try:
        module.get_submodule(path)
    except AttributeError:
        return False
    return True
