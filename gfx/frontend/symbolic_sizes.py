"""Runs a graph on symbolic sizes: what it computes of sizes becomes formulas of the inputs' sizes.

Values of the other kinds are fake tensors. Most layers are sized in closed form, so that a run
takes a few milliseconds more than one on the example's sizes.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import torch
from torch import fx, nn

from gfx.frontend.inputs.bind import Arguments
from gfx.frontend.size_conditions import expression_text, tensor_paths
from gfx.frontend.size_guards import FORMING
from gfx.frontend.torch_export import open_sizes
from gfx.ir.interpreter import Get, ancestors
from gfx.ir.shapes.fake_runner import FakeRunner
from gfx.ir.torch_logging import quiet_torch

__all__ = ["SymbolicSizes", "Values", "other_ranks", "other_sizes", "values_at"]

Values = dict[fx.Node, Any]
Dims = Callable[[torch.Tensor], Iterable[int]]

_MOST_TENSORS = 4  # that are given another rank each alone


class SymbolicSizes:
    """Holds the values of some nodes on symbolic sizes, and writes formulas as rules do.

    A size of 1 is taken for another where the graph runs there: torch takes it for a constant.

    Raises: Exception, of any kind, if the graph does not run on symbolic sizes.
    """

    def __init__(
        self, model: nn.Module, graph: fx.Graph, arguments: Arguments, nodes: Collection[fx.Node]
    ) -> None:
        last: Exception | None = None
        for change in (_no_ones, _several, torch.Tensor.detach):
            try:
                self._run(model, graph, arguments.map(change), nodes)
            except Exception as error:  # another size may be refused by anything
                last = error
            else:
                return
        assert last is not None
        raise last

    def _run(
        self, model: nn.Module, graph: fx.Graph, arguments: Arguments, nodes: Collection[fx.Node]
    ) -> None:
        from torch._subclasses.fake_tensor import FakeTensorMode
        from torch.fx.experimental.symbolic_shapes import ShapeEnv

        self.env: Any = ShapeEnv(duck_shape=False)
        mode = FakeTensorMode(shape_env=self.env, allow_non_fake_inputs=True)
        self.symbols: dict[Any, tuple[str, int]] = {}
        self.ones: set[str] = set()  # sizes of inputs that torch takes for constants
        paths = {id(tensor): path for path, tensor in tensor_paths(arguments)}

        def symbolic(tensor: torch.Tensor) -> Any:
            from torch.fx.experimental.symbolic_shapes import DimDynamic, StatelessSymbolicContext

            free: Any = [DimDynamic.DYNAMIC] * tensor.dim()
            context: Any = StatelessSymbolicContext(dynamic_sizes=free)
            fake = mode.from_tensor(tensor, symbolic_context=context)
            for dim, size in enumerate(fake.shape):
                place = f"{paths[id(tensor)]}.shape[{dim}]"
                if isinstance(size, torch.SymInt):
                    self.symbols[size.node.expr] = (place, int(tensor.shape[dim]))
                else:
                    self.ones.add(place)
            return fake

        with quiet_torch(), open_sizes(quick=True):
            runner = SymbolicRunner(model, arguments.inputs(), mode, graph=graph)
            given = arguments.map(symbolic).inputs()
            self.guards: dict[fx.Node, list[Any]] = {}
            self.values = _step(runner, given, nodes, asked=self._asked)

    def _asked(self, node: fx.Node, before: int | None = None) -> int:
        if before is not None and len(self.env.guards) > before:
            self.guards[node] = [guard.expr for guard in self.env.guards[before:]]
        return len(self.env.guards)

    def rules(self, holds: Callable[[Callable[[fx.Node], Any]], Any]) -> Iterator[str]:
        """Yields rules by which something holds that is computed of the nodes' values.

        Raises: KeyError if no rule can say it.
        """
        before = len(self.env.guards)
        value = holds(self.values.__getitem__)
        expression = getattr(getattr(value, "node", None), "expr", None)
        if expression is not None:
            yield self._text(expression) + (" != 0" if isinstance(value, torch.SymInt) else "")
        for guard in self.env.guards[before:]:
            yield self._text(guard.expr)

    def asked(self, node: fx.Node) -> Iterator[str]:
        """Yields rules that follow from what the node itself asked of sizes, as `==` of shapes.

        So do operations before it that give as many tensors as the sizes say.
        """
        for asking, guards in self.guards.items():
            name = getattr(asking.target, "__name__", str(asking.target))
            if asking is node or name in FORMING:
                yield from map(self._text, guards)

    def _text(self, expression: Any) -> str:
        return expression_text(self.env.replace(expression), self.symbols)

    def fixed(self) -> set[str]:
        """Lists the sizes of inputs that became constants, for whatever reason."""
        constant = [s for s in self.symbols if self.env.replace(s).is_number]
        return {self.symbols[symbol][0] for symbol in constant} | self.ones


class SymbolicRunner(FakeRunner):
    """Runs on symbolic sizes, and nothing for real."""

    def run_on_zeros(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        raise NotImplementedError("a result that depends on values has no formula")


def values_at(
    model: nn.Module, graph: fx.Graph, arguments: Arguments, nodes: Collection[fx.Node]
) -> Values | None:
    """Returns the values of some nodes on fake tensors; None if the graph does not run to its end.

    `arguments` may have other sizes than the example, or other ranks.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    inputs = arguments.inputs()
    try:
        with quiet_torch():
            runner = FakeRunner(model, inputs, mode, graph=graph)
            return _step(runner, arguments.map(runner.fake).inputs(), nodes)
    except Exception:  # it refuses such inputs by itself
        return None


def _step(
    runner: FakeRunner,
    inputs: tuple[Any, ...],
    nodes: Collection[fx.Node],
    asked: Callable[..., int] | None = None,
) -> Values:
    """Runs a graph, or of it what some nodes follow from; returns the values of these nodes."""
    found: Values = {}
    wanted = set(nodes)

    def note(node: fx.Node, get: Get) -> Any:
        before = asked(node) if asked else 0
        value = runner.value(node, get)
        if asked:
            asked(node, before)
        if node in wanted:
            found[node] = value
        return value

    given = {node for node in runner.graph.nodes if node.op == "placeholder"}
    ends = set() if asked else {node for node in runner.graph.nodes if node.op == "output"}
    runner.only = ancestors(wanted | ends) | given  # pieces that nothing reads do not run
    runner.start(inputs)
    with torch.no_grad():
        runner.step_through({}, see=note)
    return found


def _no_ones(tensor: torch.Tensor) -> torch.Tensor:
    """Repeats a tensor along its dimensions of 1, but for the channels."""
    for dim in (d for d in range(tensor.dim()) if d != 1 and tensor.shape[d] == 1):
        tensor = tensor.repeat_interleave(2, dim)
    return tensor.detach()


def _several(tensor: torch.Tensor) -> torch.Tensor:
    """Repeats a batch of 1."""
    one = tensor.dim() > 0 and tensor.shape[0] == 1
    return (tensor.repeat_interleave(2, 0) if one else tensor).detach()


def other_sizes(arguments: Arguments) -> Iterator[tuple[Dims, Arguments]]:
    """Yields the arguments with other sizes, and which dimensions of a tensor have changed."""
    batch = arguments.map(lambda t: t.repeat_interleave(2, 0) if t.dim() else t)
    yield lambda t: range(min(t.dim(), 1)), batch
    yield lambda t: range(2, t.dim()), arguments.map(_doubled)
    yield lambda t: range(2, t.dim()), arguments.map(_enlarged)


def other_ranks(arguments: Arguments) -> Iterator[tuple[tuple[str, ...], Arguments]]:
    """Yields the arguments with other ranks, and rules that refuse these.

    Each tensor has a dimension less, or one more; or all have.
    """
    places = list(tensor_paths(arguments))
    several = [[place] for place in places] if 1 < len(places) <= _MOST_TENSORS else []
    for chosen in [places, *several]:
        rules = tuple(f"{path}.ndim == {tensor.ndim}" for path, tensor in chosen)
        changed = {id(tensor) for _, tensor in chosen}

        def less(tensor: torch.Tensor, changed: set[int] = changed) -> torch.Tensor:
            return tensor[0] if id(tensor) in changed and tensor.dim() else tensor

        def more(tensor: torch.Tensor, changed: set[int] = changed) -> torch.Tensor:
            return tensor[None] if id(tensor) in changed else tensor

        yield rules, arguments.map(less)
        yield rules, arguments.map(more)


def _doubled(tensor: torch.Tensor) -> torch.Tensor:
    for dim in range(2, tensor.dim()):
        tensor = tensor.repeat_interleave(2, dim)
    return tensor


def _enlarged(tensor: torch.Tensor) -> torch.Tensor:
    for dim in range(2, tensor.dim()):
        tensor = torch.cat([tensor, tensor.narrow(dim, 0, 1)], dim)
    return tensor
