"""Finds parametrizations written out in the graph: `weight = norm(get_attr[original])`.

A forward that reads `self.conv.weight` of a parametrized layer is traced through the
parametrization. Its result depends on parameters only, so it can be computed in advance.
"""

import re
from dataclasses import dataclass

import torch
from torch import fx

from gfx.ir.interpreter import Interpreter, ancestors
from gfx.ir.preserve import preserved
from gfx.ir.program import Program

__all__ = ["Chain", "chains", "evaluate", "read_plainly"]

_PART = re.compile(r"(?:(?P<owner>.+)\.)?parametrizations\.(?P<name>[^.]+)(?:\..+)?")


@dataclass(frozen=True)
class Chain:
    """Holds the nodes that compute one parametrized tensor.

    Example:
        >>> Chain("conv", "weight", (), ()).path
        'conv.weight'
    """

    owner: str  # path of the module that has the tensor; "" for the program itself
    name: str  # of the tensor
    sources: tuple[fx.Node, ...]  # the nodes that read the originals
    ends: tuple[fx.Node, ...]  # the nodes whose values the rest of the graph uses

    @property
    def path(self) -> str:
        """Path of the tensor that the chain computes."""
        return f"{self.owner}.{self.name}".lstrip(".")


def chains(program: Program) -> list[Chain]:
    """Finds the chains of a program.

    Example:
        >>> import gfx
        >>> chains(gfx.trace(gfx.zoo.build("dcgan")))
        []
    """
    found: dict[tuple[str, str], list[fx.Node]] = {}
    for node in program.nodes():
        match = _PART.fullmatch(str(node.target)) if not node.all_input_nodes else None
        if match and node.op in ("get_attr", "call_module"):
            found.setdefault((match["owner"] or "", match["name"]), []).append(node)
    constant = _constant(program)
    return [
        Chain(owner, name, tuple(sources), tuple(_ends(sources, constant)))
        for (owner, name), sources in found.items()
    ]


def evaluate(program: Program, node: fx.Node) -> torch.Tensor:
    """Computes a node that depends on parameters only, in eval mode.

    Example:
        >>> from torch import nn
        >>> graph = fx.Graph()
        >>> node = graph.call_function(torch.neg, (graph.get_attr("bias"),))
        >>> program = Program(fx.GraphModule(nn.Linear(1, 2), graph), ())
        >>> torch.equal(evaluate(program, node), -program.tensor("bias"))
        True
    """
    with torch.no_grad(), preserved(program.module):
        program.module.eval()
        value: torch.Tensor = Interpreter(program.module, only=ancestors((node,))).step_through({})
        return value.detach().clone()


def read_plainly(program: Program, chain: Chain) -> None:
    """Makes the graph read the tensor at a chain's path; erases the nodes that computed it.

    The chain has a single end. The code is not recompiled.
    """
    end = chain.ends[0]
    with program.graph.inserting_before(end):
        plain = program.graph.get_attr(chain.path)
    end.replace_all_uses_with(plain)
    unread = ancestors((end,))
    for node in reversed(list(program.nodes())):  # reversed: erasing frees the nodes above
        if node in unread and not node.users:
            program.graph.erase_node(node)


def _constant(program: Program) -> set[fx.Node]:
    """Collects the nodes that depend on parameters only."""
    found: set[fx.Node] = set()
    for node in program.nodes():
        bare = node.op == "get_attr" or (node.op == "call_module" and not node.all_input_nodes)
        inputs = node.all_input_nodes
        derived = node.op.startswith("call_") and inputs and all(n in found for n in inputs)
        if bare or derived:
            found.add(node)
    return found


def _ends(sources: list[fx.Node], constant: set[fx.Node]) -> list[fx.Node]:
    """Follows users from the sources to where the values leave the constant nodes."""
    seen, waiting = dict.fromkeys(sources), list(sources)
    while waiting:
        new = [user for user in waiting.pop().users if user in constant and user not in seen]
        seen.update(dict.fromkeys(new))
        waiting.extend(new)
    return [node for node in seen if any(user not in constant for user in node.users)]
