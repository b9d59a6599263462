"""Finds statistics that a program computes from its own weights, such as spectral norms.

A statistic of a weight (weight standardisation, a spectral norm) does not depend on the input. It
must not change when channels are removed, else the consumers of the weight read other values. To
the analysis it is a tensor of its own; a removal that would change it stores its value instead.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, fx

from gfx.coupling.normalised_weights import goes_on_learning, normalised
from gfx.ir.drawn_numbers import draws
from gfx.ir.ops import is_inplace, op_name
from gfx.ir.program import Program

__all__ = ["Constants", "find_constants"]

_STATISTICS = frozenset(
    "sum mean norm vector_norm linalg_vector_norm var std var_mean std_mean amax amin max min "
    "logsumexp prod median linalg_matrix_norm linalg_svdvals linalg_norm matrix_norm".split()
)
_WEIGHTS = frozenset("normalize softmax log_softmax softmin layer_norm".split())
_MIXING = _STATISTICS | _WEIGHTS
_PRODUCTS = frozenset("dot vdot matmul mm mv bmm einsum inner chain_matmul".split())


@dataclass(frozen=True)
class Constants:
    """Lists the nodes of a graph that are computed from its tensors alone."""

    weight_statistics: frozenset[fx.Node] = frozenset()  # statistics of the program's own tensors
    weights: frozenset[fx.Node] = frozenset()  # those of them that are a whole weight again
    learning: frozenset[fx.Node] = frozenset()  # weights that a removal writes out
    own: frozenset[fx.Node] = frozenset()  # weights that alone use the tensor they come from
    hidden: frozenset[fx.Node] = frozenset()  # used for nothing but to compute them
    nodes: frozenset[fx.Node] = frozenset()  # all that does not depend on the input

    def sources(self, node: fx.Node) -> list[fx.Node]:
        """Lists the tensors that a node is computed from."""
        found: dict[fx.Node, None] = {}
        todo = [node]
        while todo:
            at = todo.pop()
            if at.op == "get_attr":
                found[at] = None
            todo += [n for n in at.all_input_nodes if n in self.nodes]
        return list(found)

    def purposes(self, node: fx.Node) -> list[fx.Node]:
        """Lists the weight statistics that a hidden node leads to; a statistic leads to itself."""
        if node in self.weight_statistics:
            return [node]
        found = [end for user in node.users for end in self.purposes(user)]
        return list(dict.fromkeys(found))


def find_constants(program: Program) -> Constants:
    """Finds the statistics that do not depend on the input of a program with shapes."""
    nodes: set[fx.Node] = set()
    found: set[fx.Node] = set()
    for node in program.graph.nodes:
        if not _is_constant(node, nodes):
            continue
        nodes.add(node)
        if isinstance(node.meta["val"], Tensor) and _mixes(node):
            found.add(node)
    if not found:
        return Constants(nodes=frozenset(nodes))
    weights = {node for node in found if op_name(node) in _WEIGHTS or normalised(node)}
    ends, hidden = found - weights, set[fx.Node]()
    for node in reversed(program.graph.nodes):
        if node in nodes and node.users and all(u in ends or u in hidden for u in node.users):
            hidden.add(node)
    found -= hidden
    weights -= hidden
    return Constants(
        frozenset(found),
        frozenset(weights),
        frozenset(filter(goes_on_learning, weights)),
        frozenset(_alone(program, weights)),
        frozenset(hidden),
        frozenset(nodes),
    )


def _alone(program: Program, weights: set[fx.Node]) -> Iterator[fx.Node]:
    """Finds the nodes that are the only ones to use the parameter they normalise."""
    read = [n for n in program.graph.nodes if n.op == "get_attr"]
    uses = Counter(id(program.tensor(str(n.target))) for n in read)
    called = [program.submodule(n) for n in program.graph.nodes if n.op == "call_module"]
    uses.update(id(t) for module in called for t in module.parameters())
    for node in weights:
        (source,) = node.all_input_nodes[:1]
        if source.op == "get_attr" and len(source.users) == 1:
            tensor = program.tensor(str(source.target))
            if uses[id(tensor)] == 1 and tensor.shape == node.meta["val"].shape:
                yield node


def _is_constant(node: fx.Node, known: set[fx.Node]) -> bool:
    if any(is_inplace(user) for user in node.users):
        return False
    if node.op == "get_attr":
        return isinstance(node.meta["val"], Tensor)
    if node.op not in ("call_function", "call_method") or not node.all_input_nodes:
        return False
    if draws(node) or op_name(node) == "empty_like":
        return False
    return all(source in known for source in node.all_input_nodes)


def _mixes(node: fx.Node) -> bool:
    """Whether a node with constant inputs brings several of their elements together."""
    name = op_name(node)
    if name == "getitem" and isinstance(node.args[0], fx.Node):
        source = node.args[0]
        return not isinstance(source.meta["val"], Tensor) and op_name(source) in _STATISTICS
    if name in _MIXING or normalised(node) is not None:
        return True
    # a product whose result is a matrix is a factorised weight, whose rank may be narrowed
    return name in _PRODUCTS and node.meta["val"].numel() == 1
