"""Finds where a module ends in a graph: the nodes whose values its forward returns.

1. A layer ends at the node that calls it.
2. A module with children ends at its last node whose value is read outside of it. Symbolic trace
   notes on each node the modules that it is inside of.
3. Graphs from torch.export, from files and from pickles have no such notes. There a call of a
   layer is inside of the modules in its path. A function is in the innermost module that all its
   operands come from or go into, so that the sum at the end of `x + f(x)` is in the block; a
   function of one value is with that value if it is its only reader. A container whose
   children are numbers (nn.Sequential) has no functions of its own.
"""

from collections import Counter
from collections.abc import Iterator

import torch
from torch import fx, nn

from gfx.ir.program import Program
from gfx.ir.stages.layer_calls import tensors_in

__all__ = ["Places", "is_floating"]

_STACK = "nn_module_stack"


class Places:
    """Finds the nodes at which each module of a program ends.

    Example:
        >>> import gfx
        >>> places = Places(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> [node.name for node in places.ends("up.0")]
        ['up_0_act']
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.calls = _noted(program) if _has_notes(program) else _inferred(program)
        self.names: dict[fx.Node, str] = {}
        for path in sorted(self.calls, key=lambda path: path.count("."), reverse=True):
            ends = self.ends(path)
            for number, end in enumerate(ends, 1):
                self.names.setdefault(end, f"{path}.{number}" if len(ends) > 1 else path)

    @property
    def paths(self) -> list[str]:
        """The paths of all modules that are called, in the order in which they are first."""
        return list(self.calls)

    def ends(self, path: str) -> list[fx.Node]:
        """Returns the nodes whose value a module returns, one for each call."""
        return [_end(call) for call in self.calls[path]]

    def name(self, node: fx.Node) -> str:
        """Names a node by the innermost module that ends there, else by its own name."""
        return self.names.get(node, node.name)


Calls = dict[str, list[list[fx.Node]]]  # by module path: for each call of it, the nodes inside


def is_floating(node: fx.Node) -> bool:
    """Whether the value of a node is a tensor of floating-point numbers; shapes must be known."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _end(call: list[fx.Node]) -> fx.Node:
    """Returns the last node that is read outside; a tensor, if any is."""
    inside = set(call)
    read = [node for node in call if any(user not in inside for user in node.users)] or call
    return next((node for node in reversed(read) if is_floating(node)), read[-1])


def _ancestors(path: str) -> Iterator[str]:
    """Yields the paths of the modules that hold a module, the outermost first."""
    parts = path.split(".")
    yield from (".".join(parts[:depth]) for depth in range(1, len(parts)))


def _has_notes(program: Program) -> bool:
    """Whether the notes of symbolic trace are there and whole (rule 2).

    A module whose children are numbers may lack: an nn.ModuleList is not called.
    """
    noted = [n for n in program.nodes() if n.op == "call_module" and _STACK in n.meta]
    lacking = {
        path
        for n in noted
        for path in {*_ancestors(str(n.target))} - {p for p, _ in n.meta[_STACK].values()}
    }
    return bool(noted) and all(_numbered(program.module.get_submodule(p)) for p in lacking)


def _noted(program: Program) -> Calls:
    """Reads the calls off the notes; nodes that a pass inserted are placed by their path."""
    found: dict[str, dict[str, list[fx.Node]]] = {}
    latest: dict[str, str] = {}
    for node in program.nodes():
        stack = {key: path for key, (path, _) in node.meta.get(_STACK, {}).items()}
        inside = [*stack.values(), *([str(node.target)] if node.op == "call_module" else [])]
        missing = {holder for path in inside for holder in _ancestors(path)} - {*stack.values()}
        stack |= {latest.get(path, path): path for path in missing}
        if node.op == "call_module":
            # a layer that is called by two modules has one node for each call
            stack = {key: path for key, path in stack.items() if path != node.target}
            stack[f"{node.target}@{node.name}"] = str(node.target)
        for key, path in stack.items():
            latest[path] = key
            found.setdefault(path, {}).setdefault(key, []).append(node)
    found.pop("", None)
    return {path: list(calls.values()) for path, calls in found.items()}


def _inferred(program: Program) -> Calls:
    """Finds the calls from paths and from what reads what (rule 3)."""
    owners = _owners(program)
    found: dict[str, list[fx.Node]] = {}
    for node, owner in owners.items():
        path = f"{owner}.x" if owner else "x"  # the owner is an ancestor of what it holds
        for holder in _ancestors(path):
            found.setdefault(holder, []).append(node)
    calls = {path: _parts(nodes) for path, nodes in found.items()}
    for node in owners:
        if node.op == "call_module":
            calls.setdefault(str(node.target), []).append([node])
    return calls


def _parts(nodes: list[fx.Node]) -> list[list[fx.Node]]:
    """Cuts the nodes of a module into those of each call: all calls have equally many."""
    times = Counter(str(node.target) for node in nodes if node.op == "call_module")
    count = min(times.values(), default=1)
    if len(nodes) % count or any(number % count for number in times.values()):
        return [nodes]
    size = len(nodes) // count
    return [nodes[start : start + size] for start in range(0, len(nodes), size)]


def _owners(program: Program) -> dict[fx.Node, str]:
    """Maps each call to the path of the innermost module that it is inside of."""
    owners: dict[fx.Node, str] = {}
    for node in program.nodes():
        if node.op == "call_module":
            owners[node] = str(node.target).rpartition(".")[0]
        elif node.op in ("call_function", "call_method"):
            owners[node] = _owner(program.module, node, owners)
    return owners


def _owner(module: fx.GraphModule, node: fx.Node, owners: dict[fx.Node, str]) -> str:
    """Finds the module that a function is inside of (rule 3)."""
    read = tensors_in(node) or node.all_input_nodes  # where a size is from does not matter
    operands = [operand for operand in read if operand in owners]
    if not operands:
        weights = [n for n in node.all_input_nodes if n.op == "get_attr"]
        return str(weights[0].target).rpartition(".")[0] if weights else ""
    candidates = {path for operand in operands for path in _chain(owners[operand])}
    if len(operands) == 1 and len(read) == 1 and len(operands[0].users) > 1:
        beside = [owners[user] for user in operands[0].users if user in owners]
        beside += [str(user.target) for user in node.users if user.op == "call_module"]
        candidates = {path for path in candidates if all(_within(b, path) for b in beside)}
    for path in sorted(candidates, key=len, reverse=True):
        if path and _numbered(module.get_submodule(path)):
            continue
        if all(_belongs(operand, path, owners) for operand in read):
            return path
    return ""


def _belongs(operand: fx.Node, path: str, owners: dict[fx.Node, str]) -> bool:
    """Whether a value is made inside of a module, or goes into it."""
    if operand.op == "get_attr" or _within(owners.get(operand, ""), path):
        return True
    return any(user in owners and _within(owners[user], path) for user in operand.users)


def _chain(path: str) -> list[str]:
    return [*_ancestors(path), path, ""] if path else [""]


def _within(path: str, holder: str) -> bool:
    return not holder or path == holder or path.startswith(f"{holder}.")


def _numbered(module: nn.Module) -> bool:
    names = [name for name, _ in module.named_children()]
    return bool(names) and all(name.isdigit() for name in names)
