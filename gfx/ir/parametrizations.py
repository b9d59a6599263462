"""Finds parametrizations of a program: those that its graph computes, and who uses their tensors.

A forward that reads `self.conv.weight` of a parametrized layer is traced through the
parametrization: the graph has nodes that compute `weight = norm(get_attr[original])`. Their values
depend on parameters only, so they can be computed before the program runs.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.nn.utils.parametrize import is_parametrized

from gfx.ir.computed_tensors import (
    ComputedTensor,
    computed_tensors,
    computed_values,
    folding,
    store_tensor,
)
from gfx.ir.interpreter import Interpreter, ancestors
from gfx.ir.modules import OWN
from gfx.ir.preserve import preserved
from gfx.ir.program import Program

__all__ = [
    "Chain",
    "ParametrizationUses",
    "chains",
    "evaluate",
    "fold_chain",
    "folding_in",
    "read_plainly",
]

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
        return _join(self.owner, self.name)


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


def fold_chain(program: Program, chain: Chain) -> bool:
    """Stores the value that a chain computes at its path, and lets the graph read it there.

    Returns: whether it did. It does not if the module computes the tensor too, or if the graph
    uses other nodes of the chain than a single end.
    """
    owner = program.module.get_submodule(chain.owner)
    if is_parametrized(owner) or len(chain.ends) != 1 or not chain.ends[0].users:
        return False
    originals = tuple(program.tensor(str(node.target)) for node in chain.sources)
    store_tensor(owner, chain.name, evaluate(program, chain.ends[0]), originals)
    read_plainly(program, chain)
    return True


def folding_in(program: Program, path: str) -> str:
    """Says what to do about the computed tensors of a module of a program, see `folding`.

    Example:
        >>> import gfx
        >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        >>> model = nn.Sequential(layer, nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
        >>> program = gfx.trace(model, torch.zeros(1, 4))
        >>> folding_in(program, "0")
        'run fold_parametrizations before'
    """
    module = program.module.get_submodule(path)
    computed = computed_tensors(module)
    obstacle = ParametrizationUses(program).obstacle(path, computed) if computed else ""
    return folding(module, obstacle)


class ParametrizationUses:
    """Knows where a program uses computed tensors and their originals, before any is folded.

    Example:
        >>> import gfx
        >>> from gfx.ir.computed_tensors import computed_tensors
        >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))
        >>> program = gfx.trace(nn.Sequential(layer), torch.zeros(1, 4))
        >>> computed = computed_tensors(program.module.get_submodule("0"))
        >>> ParametrizationUses(program).obstacle("0", computed)
        ''
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.chains = {chain.path: chain for chain in chains(program)}
        self._owners = _owners(program, self.chains.values())

    def obstacle(self, path: str, computed: Mapping[str, ComputedTensor]) -> str:
        """Says why the computed tensors of a module cannot become plain ones; "" if they can.

        1. The module is inside an opaque leaf, whose code may read the originals.
        2. Another place uses one of the originals: the two would no longer be the same.
        3. The graph reads the originals, or values on the way, beside the result.
        """
        leaf = _opaque_leaf(self.program, path)
        if leaf:
            return f"inside the opaque leaf {leaf}, whose code may read the parts"
        for name, tensor in computed.items():
            if any(self._owners[id(original)] > 1 for original in tensor.originals):
                return f"the {tensor.kind} of {name} uses a tensor that another place uses too"
            if not self._reads_result(path, name):
                return f"the graph uses the parts of the {tensor.kind} of {name}"
        return ""

    def read_folded(self, path: str, name: str) -> None:
        """Lets the graph read a tensor that was folded, if it computes it by a chain of its own."""
        chain = self.chains.pop(_join(path, name), None)
        if chain is not None:
            read_plainly(self.program, chain)

    def _reads_result(self, path: str, name: str) -> bool:
        """Whether the graph has no chain for a tensor, or one whose only result is the tensor."""
        chain = self.chains.get(_join(path, name))
        if chain is None:
            return True
        module = self.program.module.get_submodule(path)
        if len(chain.ends) != 1 or not is_parametrized(module):
            return len(chain.ends) == 1
        return torch.equal(evaluate(self.program, chain.ends[0]), computed_values(module)[name])


def _owners(program: Program, known: Iterable[Chain]) -> Counter[int]:
    """Counts the places that hold each tensor, and the names by which nodes read it."""
    owners: Counter[int] = Counter()
    for module in program.module.modules():  # each once, under however many paths
        tensors = [*module._parameters.values(), *module._buffers.values()]
        owners.update(id(t) for t in tensors if t is not None)
    parameters = program.module.named_parameters(remove_duplicate=False)
    buffers = program.module.named_buffers(remove_duplicate=False)
    named = {**dict(parameters), **dict(buffers)}
    reads = {str(node.target) for node in program.nodes() if node.op == "get_attr"}
    # a chain reads the originals now, and the folded tensor afterwards
    reads -= {str(node.target) for chain in known for node in chain.sources}
    owners.update(id(named[path]) for path in reads if path in named)
    return owners


def _opaque_leaf(program: Program, path: str) -> str:
    """Returns the opaque leaf that a path is inside of; "" if there is none."""
    leaves = {str(node.target) for node in program.nodes() if node.op == "call_module"}
    parts = path.split(".")
    for leaf in (".".join(parts[:i]) for i in range(1, len(parts) + 1)):
        if leaf in leaves and not _is_known(program.module.get_submodule(leaf)):
            return leaf
    return ""


def _is_known(module: nn.Module) -> bool:
    # a parametrized module has a class of its own, made from the one it had before
    kind = type(module).__bases__[0] if is_parametrized(module) else type(module)
    return kind in OWN or kind.__module__.startswith("torch.nn.")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}".lstrip(".")


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
