"""Holds a traced model as a Program, with its example inputs and their provenance."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import fx, nn

from gfx.ir.ambient_modes import shielded
from gfx.ir.copy_on_write import clone_on_write
from gfx.ir.deepcopy import deepcopy
from gfx.ir.ops import is_inplace, is_inplace_module

__all__ = ["Program", "Provenance", "has_effect"]


@dataclass(frozen=True)
class Provenance:
    """Records how a program was obtained.

    Example:
        >>> Provenance(source="Net").frontend
        'given'
    """

    source: str  # class name of the model
    frontend: Literal["symbolic", "export", "given"] = "given"  # given: it already was a graph
    assumed: tuple[str, ...] = ()  # sentences: what was assumed about the inputs
    opaque: tuple[tuple[str, str], ...] = ()  # (module path, reason) of every opaque leaf
    notes: tuple[str, ...] = ()  # sentences: anything else a user should know


@shielded
@dataclass
class Program:
    """Holds a traced generator while passes rewrite it.

    The program owns its module: passes edit it in place, the pipeline copies it first.

    Example:
        >>> import gfx
        >>> program = gfx.trace(gfx.zoo.build("dcgan"))
        >>> [tuple(x.shape) for x in program.example_inputs]
        [(1, 100, 1, 1)]
    """

    module: fx.GraphModule
    example_inputs: tuple[Any, ...]
    provenance: Provenance = field(default_factory=lambda: Provenance("GraphModule"))

    @property
    def graph(self) -> fx.Graph:
        """The graph of the module."""
        return self.module.graph

    def nodes(self) -> Iterator[fx.Node]:
        """Iterates over the nodes in execution order; the list is fixed before the first edit."""
        return iter(tuple(self.module.graph.nodes))

    def tensor(self, path: str) -> torch.Tensor:
        """Returns the parameter, buffer or constant at a dotted path.

        Raises: AttributeError if nothing is there, or something that is no tensor.
        """
        owner, _, name = path.rpartition(".")
        value = getattr(_found(self.module, owner) if owner else self.module, name)
        if not isinstance(value, torch.Tensor):
            raise AttributeError(f"{path} is a {type(value).__name__}, not a tensor")
        return value

    def submodule(self, node: fx.Node) -> nn.Module:
        """Returns the module that a call_module node calls."""
        return _found(self.module, str(node.target))

    @property
    def training(self) -> bool:
        """Whether the program as a whole is in training mode."""
        return self.module.training

    def copy(self, *, on_write: bool = False) -> "Program":
        """Copies the module (parameters too); the example inputs are shared.

        With `on_write`, inside the pipeline, a tensor is copied once one of the two is written.
        """
        clone = clone_on_write if on_write else torch.Tensor.clone
        return replace(self, module=deepcopy(self.module, clone=clone))

    def recompile(self) -> None:
        """Removes dead code and submodules nobody calls, lints and recompiles the graph."""
        self.tidy()
        self.module.recompile()

    def tidy(self) -> None:
        """Removes dead code and submodules nobody calls, and lints the graph."""
        self.graph.eliminate_dead_code(_is_needed)  # it lints first
        _delete_unused(self.module)

    def text(self) -> str:
        """Prints the program, one node a line.

        Example:
            >>> import gfx
            >>> print(gfx.trace(gfx.zoo.build("dcgan")).text().splitlines()[0])
            program DcganGenerator (symbolic)
        """
        lines = [f"program {self.provenance.source} ({self.provenance.frontend})"]
        lines += [f"  {_line(node, self.module)}" for node in self.graph.nodes]
        return "\n".join(lines)


def has_effect(node: fx.Node) -> bool:
    """Whether a node does something although nothing uses its result (`x.add_(1)`)."""
    if node.op == "call_module" and node.graph.owning_module is not None:
        module = _found(node.graph.owning_module, str(node.target))
        if is_inplace_module(module):
            return True
    return node.is_impure() or is_inplace(node)


def _is_needed(node: fx.Node) -> bool:
    """Whether a node must stay; whether it has an effect is asked only where nothing uses it."""
    return bool(node.users) or has_effect(node)


def _delete_unused(module: fx.GraphModule) -> None:
    """Deletes the submodules that torch's `delete_all_unused_submodules` does, in linear time."""
    used: set[str] = set()
    for node in module.graph.nodes:
        if node.op not in ("call_module", "get_attr"):
            continue
        path = str(node.target)
        used.update(accumulate(path.split("."), "{}.{}".format))
        if node.op == "call_module":
            used.update(f"{path}.{name}" for name, _ in _found(module, path).named_modules())
    for name in [name for name, _ in module.named_modules() if name and name not in used]:
        module.delete_submodule(name)


def _found(module: nn.Module, path: str) -> nn.Module:
    """Finds a submodule, at a third of what `get_submodule` takes where nothing is special."""
    found: nn.Module | None = module
    for name in path.split("."):
        found = None if found is None else found._modules.get(name)
    return module.get_submodule(path) if found is None else found


def _argument(value: Any) -> str:
    """Writes an argument; nodes by their bare names."""
    return fx.node._format_arg(value).replace("%", "")


def _line(node: fx.Node, module: fx.GraphModule) -> str:
    """Writes one node as `name: shape = op(arguments)`."""
    value = node.meta.get("val")
    shape = f": {'x'.join(map(str, value.shape))}" if isinstance(value, torch.Tensor) else ""
    args = ", ".join(
        [*map(_argument, node.args), *(f"{k}={_argument(v)}" for k, v in node.kwargs.items())]
    )
    if node.op == "call_module":
        kind = type(module.get_submodule(str(node.target))).__name__
        return f"{node.name}{shape} = {kind}[{node.target}]({args})"
    if node.op == "output":
        return f"return {args}"
    if node.op in ("placeholder", "get_attr"):
        return f"{node.name}{shape} = {node.op}[{node.target}]"
    target = (
        node.target if isinstance(node.target, str) else fx.node._get_qualified_name(node.target)
    )
    return f"{node.name}{shape} = {target}({args})"
