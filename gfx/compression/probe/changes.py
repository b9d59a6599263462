"""Defines changes of a program: which nodes compute something else, and what.

A change is given as steps: for each node that it touches, what computes that node's value from the
values of its inputs. All other nodes stay as they are, so the changed program is never built.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, fx, nn

from gfx.coupling import Groups
from gfx.coupling.call import Statistic
from gfx.coupling.labels import Mask
from gfx.coupling.removal.masked_reference import (
    masks_of,
    multiplied,
    multiply,
    restrict,
    restrictions,
)
from gfx.errors import InputError
from gfx.ir.interpreter import Get, Interpreter, overlaid
from gfx.ir.program import Program

__all__ = ["Narrowing", "ProbeChange", "Replacement", "Step", "Steps"]

Step = Callable[[Interpreter, Get], Any]
Steps = Mapping[fx.Node, Step]
Masks = Mapping[fx.Node, Tensor]


class ProbeChange(Protocol):
    """Describes a change that a replay can measure."""

    def steps(self, program: Program) -> dict[fx.Node, Step]:
        """Returns what computes the nodes that the change touches."""

    def modules(self) -> tuple[nn.Module, ...]:
        """Lists the modules of the change itself: they run in eval mode."""


@dataclass(frozen=True)
class Replacement:
    """Replaces the computation of nodes by a module, or any callable, on the same arguments.

    A node is given as itself or by its name.

    Example:
        >>> Replacement({"conv": nn.Identity()}).modules()
        (Identity(),)
    """

    by: Mapping[fx.Node | str, Callable[..., Any]]

    def steps(self, program: Program) -> dict[fx.Node, Step]:
        """Returns a call of each replacement.

        Raises: InputError if the program has no such node.
        """
        return {node_of(program, node): _called(program, node, f) for node, f in self.by.items()}

    def modules(self) -> tuple[nn.Module, ...]:
        """Lists the replacements that are modules."""
        return tuple(f for f in self.by.values() if isinstance(f, nn.Module))


@dataclass(frozen=True)
class Narrowing:
    """Zeroes channels where they are read; statistics cover the channels that are left.

    This equals the program after these channels are removed (see
    `gfx.coupling.removal.masked`). `groups` are those of the program, or of a copy of it.
    """

    groups: Groups
    removed: Mask  # by class of labels, whether it is removed

    def steps(self, program: Program) -> dict[fx.Node, Step]:
        """Returns calls of the readers on masked operands, and statistics of the channels left.

        Raises: InputError if the groups are of another program.
        """
        masks: dict[fx.Node, dict[fx.Node, Tensor]] = {}
        for (node, operand), mask in masks_of(self.groups, self.removed).items():
            masks.setdefault(node, {})[operand] = mask
        looks: dict[fx.Node, list[tuple[Statistic, dict[int, Tensor]]]] = {}
        for statistic, stays in restrictions(self.groups, self.removed):
            looks.setdefault(statistic.node, []).append((statistic, stays))
        found: dict[fx.Node, Step] = {}
        for node, read in masks.items():
            own = {node_of(program, operand): mask for operand, mask in read.items()}
            found[node_of(program, node)] = _masked(node_of(program, node), own)
        for node, seen in looks.items():
            own_node = node_of(program, node)
            found[own_node] = _restricted(
                self.groups.program, node, own_node, masks.get(node, {}), seen
            )
        return found

    def modules(self) -> tuple[nn.Module, ...]:
        """Lists nothing: the modules are the program's own."""
        return ()


def node_of(program: Program, node: fx.Node | str) -> fx.Node:
    """Finds a node of a program by its name, or by a node of a copy."""
    if isinstance(node, fx.Node) and node.graph is program.graph:
        return node
    name = node.name if isinstance(node, fx.Node) else node
    found: fx.Node | None = next((own for own in program.graph.nodes if own.name == name), None)
    if found is not None:
        return found
    raise InputError(
        f"a change is asked for at node {name}, which the program does not have; give a node of "
        "the program that is probed, or its name"
    )


def _called(program: Program, given: fx.Node | str, function: Callable[..., Any]) -> Step:
    node = node_of(program, given)
    if not node.op.startswith("call"):
        raise InputError(
            f"node {node.name} is a {node.op}, which nothing can stand for; give a node that calls "
            "a layer or an operation"
        )

    def step(interpreter: Interpreter, get: Get) -> Any:
        args, kwargs = interpreter.arguments(node, get)
        return function(*args, **kwargs)

    return step


def _masked(node: fx.Node, masks: Masks) -> Step:
    """Runs a node on its masked operands."""

    def step(interpreter: Interpreter, get: Get) -> Any:
        masked = {n: multiplied(get(n), mask) for n, mask in masks.items()}
        return interpreter.value(node, overlaid(get, masked))

    return step


def _restricted(
    program: Program,
    node: fx.Node,
    own: fx.Node,
    masks: Masks,
    seen: list[tuple[Statistic, dict[int, Tensor]]],
) -> Step:
    """Runs a program of this node alone, edited as the whole program would be."""
    alone, inputs = _alone(program, node)
    new = next(n for n in alone.graph.nodes if n.op not in ("placeholder", "output"))
    for operand, mask in masks.items():
        multiply(alone, new, inputs[operand], mask)
    for statistic, stays in seen:
        operand = inputs[statistic.operand]
        restrict(alone, Statistic(new, operand, statistic.ids, statistic.carries), stays)
    runner = Interpreter(alone.module)

    def step(interpreter: Interpreter, get: Get) -> Any:
        return runner.run(*[get(n) for n in own.all_input_nodes])

    return step


def _alone(program: Program, node: fx.Node) -> tuple[Program, dict[fx.Node, fx.Node]]:
    """Builds a program of a single node, which shares its module; its inputs are the node's."""
    graph = fx.Graph()
    inputs = {}
    for source in node.all_input_nodes:
        inputs[source] = graph.placeholder(source.name)
        inputs[source].meta["val"] = source.meta["val"]
    graph.output(graph.node_copy(node, inputs.__getitem__))
    held = {str(node.target): program.submodule(node)} if node.op == "call_module" else {}
    return Program(fx.GraphModule(held, graph), ()), inputs
