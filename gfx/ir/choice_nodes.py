"""Finds the choices in a graph, which nodes are alive under them, and takes them.

1. A choice is a layer of `gfx.ir.modules.ChoiceLayer`; it stands for one of its operands.
2. A node is alive if the output follows from it by operands that are taken. What writes in place
   is alive with what reads its result; without a reader it is always alive, as are inputs.
3. When a node is alive is a sum of products: a set of alternatives, each a set of (choice, option).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx

from gfx.ir.modules import ChoiceLayer
from gfx.ir.program import Program, has_effect

__all__ = [
    "ALWAYS",
    "NEVER",
    "When",
    "alive",
    "choices_of",
    "either",
    "holds",
    "take",
    "take_in_graph",
    "when_alive",
]

When = frozenset[frozenset[tuple[int, int]]]  # rule 3: choices are numbered in the graph's order
ALWAYS: When = frozenset([frozenset()])
NEVER: When = frozenset()


def choices_of(module: fx.GraphModule) -> dict[fx.Node, ChoiceLayer]:
    """Returns the choices of a graph, in the order in which they are computed.

    Example:
        >>> from torch import nn
        >>> choices_of(fx.symbolic_trace(nn.ReLU()))
        {}
    """
    called = [node for node in module.graph.nodes if node.op == "call_module"]
    layers = {node: module.get_submodule(str(node.target)) for node in called}
    return {node: layer for node, layer in layers.items() if isinstance(layer, ChoiceLayer)}


def when_alive(module: fx.GraphModule) -> dict[fx.Node, When]:
    """Returns when each node of a graph is alive (rule 2)."""
    numbers = {node: i for i, node in enumerate(choices_of(module))}
    counts = {i: len(node.args) for node, i in numbers.items()}
    found: dict[fx.Node, When] = {}
    for node in reversed(module.graph.nodes):
        if node.op in ("output", "placeholder") or (not node.users and has_effect(node)):
            found[node] = ALWAYS
            continue
        alternatives: list[When] = []
        for user in node.users:
            if user not in numbers:
                alternatives.append(found[user])
                continue
            number = numbers[user]
            taken = [option for option, each in enumerate(user.args) if each is node]
            alternatives += [_both(found[user], number, option) for option in taken]
        found[node] = either(alternatives, counts)
    return {node: found[node] for node in module.graph.nodes}


def either(alternatives: Iterable[When], counts: Mapping[int, int]) -> When:
    """Returns when at least one of some conditions holds.

    Args:
        alternatives: the conditions.
        counts: how many options each choice has.

    Example:
        >>> one, other = (frozenset([frozenset([(0, option)])]) for option in (0, 1))
        >>> either([one, other], {0: 2}) == ALWAYS, either([], {}) == NEVER
        (True, True)
    """
    terms = {term for each in alternatives for term in each}
    while True:
        # a term that holds whenever another does is needless
        terms = {term for term in terms if not any(other < term for other in terms)}
        merged = next((each for term in terms if (each := _merged(term, terms, counts))), None)
        if merged is None:
            return frozenset(terms)
        terms.add(merged[0])


def _merged(
    term: frozenset[tuple[int, int]], terms: set[frozenset[tuple[int, int]]], counts: Any
) -> tuple[frozenset[tuple[int, int]]] | None:
    """Returns a term without one of its choices, if all options of this one are there."""
    for number, option in term:
        rest = term - {(number, option)}
        if all(any(t <= rest | {(number, o)} for t in terms) for o in range(counts[number])):
            return (rest,)
    return None


def _both(when: When, number: int, option: int) -> When:
    """Returns when a condition holds and a choice takes an option."""
    return frozenset(
        term | {(number, option)}
        for term in when
        if all(n != number or o == option for n, o in term)
    )


def holds(when: When, options: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tells for which rows a condition holds.

    Args:
        when: the condition.
        options: (rows, choices), which option each choice takes.

    Example:
        >>> holds(frozenset([frozenset([(0, 1)])]), np.array([[0], [1]])).tolist()
        [False, True]
    """
    found = np.zeros(len(options), dtype=bool)
    for term in when:
        both = np.ones(len(options), dtype=bool)
        for number, option in term:
            both &= options[:, number] == option
        found |= both
    return found


def alive(when: Mapping[fx.Node, When], options: Sequence[int]) -> set[fx.Node]:
    """Returns the nodes that are alive when choices take some options."""
    taken = set(enumerate(options))
    return {node for node, each in when.items() if any(term <= taken for term in each)}


def take(program: Program, options: Sequence[int]) -> None:
    """Takes an option of every choice of a program, in place: the others are gone.

    Example:
        >>> import gfx, torch
        >>> model = gfx.zoo.build("resnet_9blocks", ngf=4, n_blocks=1, image_size=16)
        >>> net = gfx.supernet(model, widths=[0.5, 1.0], skip=True)
        >>> program = net.program.copy()
        >>> before = len(program.graph.nodes)
        >>> take(program, [0])
        >>> choices_of(program.module), len(program.graph.nodes) < before
        ({}, True)
    """
    read = {str(node.target) for node in program.graph.nodes if node.op == "get_attr"}
    take_in_graph(program.module, program.graph, options)
    program.recompile()
    for path in read - {str(n.target) for n in program.graph.nodes if n.op == "get_attr"}:
        _delete(program, path)


def take_in_graph(module: fx.GraphModule, graph: fx.Graph, options: Sequence[int]) -> None:
    """Takes an option of every choice in a graph over the layers of a module."""
    known = list(choices_of(module))
    when = when_alive(module)
    kept = alive(when, options)
    twins = dict(zip(module.graph.nodes, graph.nodes, strict=True))
    for node, option in zip(known, options, strict=True):
        mine = twins[node]
        taken = mine.args[option]
        assert isinstance(taken, fx.Node)
        mine.replace_all_uses_with(taken)
    for node in reversed(list(twins)):
        if node in known or node not in kept:
            graph.erase_node(twins[node])


def _delete(program: Program, path: str) -> None:
    """Deletes a tensor that no node reads any more, and that is no layer's own."""
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_module"]
    owner, _, name = path.rpartition(".")
    if any(f"{owner}.".startswith(f"{each}.") for each in called):
        return
    try:
        held = program.module.get_submodule(owner)
    except AttributeError:  # gone with what it was in
        return
    if name in vars(held) or name in held._parameters or name in held._buffers:
        delattr(held, name)
