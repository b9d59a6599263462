"""Folds expressions of weights and constants into stored tensors.

Before   y = conv2d(x, weight * scale)        weight * scale is computed for every input
After    y = conv2d(x, stored)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx, nn

from gfx.contract import Context, Keeps, Outcome, Pass
from gfx.coupling.removal.masked_reference import fresh_name
from gfx.errors import PreconditionError
from gfx.ir.node_origin import stands_for
from gfx.ir.ops import is_inplace, op_name
from gfx.ir.parametrizations import evaluate
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate

__all__ = ["FoldConstants"]

_DRAWS = ("rand", "bernoulli", "normal", "multinomial", "dropout", "poisson", "empty")
# another view or layout of the same numbers: storing it saves no arithmetic
_MOVES = frozenset(
    "view reshape flatten unflatten squeeze unsqueeze permute transpose t mT expand getitem select "
    "narrow chunk split unbind contiguous detach to float size getattr".split()
)


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Stores values that depend on weights and constants only: scaled or standardised kernels.

    The stored tensor is a parameter if it is computed from a parameter, so that it can be trained
    and pruned; training then changes the product, no longer its factors.

    1. A value is folded where it meets the input, if at least one step of its computation is
       arithmetic.
    2. No step draws random numbers or is written into, else skip.
    3. Its sources are read nowhere else, and those that learn (all, if none does) are no smaller
       than it, else skip: parameters would grow.

    Shapes: every activation keeps its own.
    Cost: no count grows; products of weights are gone.
    Raises: PreconditionError if the program is in training mode.

    Example:
        >>> import gfx
        >>> class Scaled(nn.Conv2d):
        ...     def forward(self, x):
        ...         return self._conv_forward(x, self.weight * 0.5, self.bias)
        >>> folded = gfx.apply(
        ...     {"passes": ["fold_constants"]}, Scaled(3, 8, 3).eval(), torch.zeros(1, 3, 8, 8)
        ... )
        >>> any("mul" in node.name for node in folded.graph.nodes if node.op != "get_attr")
        False
    """

    name: ClassVar[str] = "fold_constants"
    keeps: ClassVar[Keeps] = Keeps.VALUES

    targets: tuple[str, ...] = ("*",)  # globs over the names of the nodes whose values are stored

    def requires(self, program: Program) -> None:
        """Raises PreconditionError if the program is in training mode."""
        if program.training:
            raise PreconditionError(
                f"{self.name}: the model is in training mode, where the factors of a weight learn "
                "each for itself; call model.eval() first"
            )

    def apply(self, program: Program, context: Context) -> Outcome:
        """Stores every value that the rules allow."""
        outcome = Outcome()
        propagate(program)
        for node in list(_ends(program)):
            why = self._refusal(program, node)
            if why:
                outcome.skip(node, why)
                continue
            sources = _sources(node)
            stored = _store(program, node, sources)
            outcome.change(stored, "made of", [str(s.target) for s in sources], stored.name)
            _delete(program, sources)
        program.recompile()
        return outcome

    def _refusal(self, program: Program, node: fx.Node) -> str:
        """Says why a value cannot be stored; "" if it can."""
        if not self.named(node.name):
            return f"not in targets {', '.join(self.targets)}"
        steps = _steps(node)
        for step in steps:
            if op_name(step).startswith(_DRAWS):  # rule 2
                return f"{step.name} draws random numbers"
            if any(is_inplace(user) for user in step.users) or is_inplace(step):
                return f"{step.name} is written into"
        sources = _sources(node)
        others = [str(s.target) for s in sources if not _only_read_by(program, s, steps)]
        others += [n.name for n in steps if n is not node and any(u not in steps for u in n.users)]
        if others:  # rule 3
            return f"{others[0]} is read in another place too: parameters would grow"
        value, tensors = node.meta["val"], [_tensor(program, s) for s in sources]
        learned = [t for t in tensors if isinstance(t, nn.Parameter) and value.is_floating_point()]
        held, kind = learned or tensors, " that learn" if learned else ""
        if (count := value.numel()) > (known := sum(t.numel() for t in held)):
            return f"it has {count} numbers, and is made of {known}{kind}"
        if (count := value.nbytes) > (known := sum(t.nbytes for t in held)):
            return f"it has {count} bytes, and is made of {known}{kind}"
        return ""


def _ends(program: Program) -> Iterator[fx.Node]:
    """Yields the tensors computed from constants only that something else reads (rule 1)."""
    constant: set[fx.Node] = set()
    for node in program.nodes():
        inputs = node.all_input_nodes
        called = node.op in ("call_function", "call_method")
        read = node.op == "get_attr" and _is_tensor(program, node)
        if read or (called and inputs and all(n in constant for n in inputs)):
            constant.add(node)
    for node in program.nodes():
        if node not in constant or not isinstance(node.meta["val"], torch.Tensor):
            continue
        computed = any(n.op != "get_attr" and op_name(n) not in _MOVES for n in _steps(node))
        if computed and any(user not in constant for user in node.users):
            yield node


def _steps(node: fx.Node) -> dict[fx.Node, None]:
    """Collects a node and all that it is computed from, the node first."""
    found, waiting = {node: None}, [node]
    while waiting:
        new = [n for n in waiting.pop().all_input_nodes if n not in found]
        found.update(dict.fromkeys(new))
        waiting.extend(new)
    return found


def _sources(node: fx.Node) -> list[fx.Node]:
    return sorted((n for n in _steps(node) if n.op == "get_attr"), key=lambda n: n.name)


def _is_tensor(program: Program, node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)


def _tensor(program: Program, node: fx.Node) -> torch.Tensor:
    return program.tensor(str(node.target))


def _only_read_by(program: Program, source: fx.Node, steps: dict[fx.Node, None]) -> bool:
    """Whether only these nodes read a tensor: no other node, and no layer that is called."""
    tensor = _tensor(program, source)
    for node in program.nodes():
        if node.op == "get_attr" and node not in steps and _is_tensor(program, node):
            if _tensor(program, node) is tensor:
                return False
        elif node.op == "call_module":
            module = program.submodule(node)
            if any(t is tensor for t in (*module.parameters(), *module.buffers())):
                return False
    return True


def _store(program: Program, node: fx.Node, sources: list[fx.Node]) -> fx.Node:
    """Registers a node's value as a parameter or buffer, and lets the graph read that."""
    value, steps = evaluate(program, node), _steps(node)
    learned = [t for t in (_tensor(program, s) for s in sources) if isinstance(t, nn.Parameter)]
    name = fresh_name(program.module, node.name)
    if learned and value.is_floating_point():
        grad = any(t.requires_grad for t in learned)
        program.module.register_parameter(name, nn.Parameter(value, requires_grad=grad))
    else:
        program.module.register_buffer(name, value)
    with program.graph.inserting_before(node):
        stored = program.graph.get_attr(name)
    stands_for(stored, node)
    stored.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(stored)
    for step in reversed(list(program.nodes())):  # reversed: erasing frees the nodes above
        if step in steps and not step.users:
            program.graph.erase_node(step)
    return stored


def _delete(program: Program, sources: list[fx.Node]) -> None:
    """Deletes tensors that nothing reads any more from their modules."""
    for source in sources:
        owner, _, name = str(source.target).rpartition(".")
        module: Any = program.module.get_submodule(owner)
        if hasattr(module, name):
            delattr(module, name)
