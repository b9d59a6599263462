"""Computes how much memory activations take while a program runs."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import fx
from torch.utils import _pytree as pytree

from gfx.ir.program import Program

__all__ = ["ActivationMemory", "Life", "lives", "measure", "memory_of"]


@dataclass(frozen=True)
class ActivationMemory:
    """Bytes of activations at every node, in execution order.

    Units: bytes.
    """

    new: tuple[int, ...]  # that the node allocates for its outputs
    live: tuple[int, ...]  # alive while the node runs

    @property
    def peak(self) -> int:
        """The most that are alive at one time."""
        return max(self.live, default=0)


@dataclass(frozen=True)
class Life:
    """Describes the lifetime of a piece of memory, and the node it belongs to.

    Units: places in the execution order, bytes.
    """

    node: fx.Node  # that allocates it
    leaf: int  # which of the tensors in the node's value
    first: int
    last: int
    count: int  # bytes


def measure(program: Program) -> ActivationMemory:
    """Measures the activations of a propagated program.

    1. A piece of memory lives from the node that allocates it to the last node that reads any
       tensor in it. While a node runs, its inputs and its outputs are alive.
    2. Views and in-place operations stay in their input's memory and cost nothing.
    3. Graph inputs live until their last use, outputs to the end.
    4. Parameters, buffers and what an operation needs inside it are not counted.
    """
    return _sweep(len(list(program.nodes())), lives(program))


def lives(program: Program) -> list[Life]:
    """Lists every piece of memory that activations take, in the order of allocation."""
    made: dict[int, tuple[fx.Node, int, int, int]] = {}
    last: dict[int, int] = {}
    fixed: set[int] = set()
    places = {node: place for place, node in enumerate(program.nodes())}
    for node, place in places.items():
        end = max((places[user] for user in node.users), default=place)
        for leaf, (key, count) in enumerate(memory_of(node)):
            made.setdefault(key, (node, leaf, place, count))
            last[key] = max(end, last.get(key, end))  # rule 1
            if node.op == "get_attr":
                fixed.add(key)  # rule 4
    return [
        Life(node, leaf, first, last[key], count)
        for key, (node, leaf, first, count) in made.items()
        if key not in fixed
    ]


def _sweep(length: int, pieces: list[Life]) -> ActivationMemory:
    """Adds up lives into bytes at each place."""
    new: dict[int, int] = defaultdict(int)
    steps = [0] * (length + 1)
    for life in pieces:
        new[life.first] += life.count
        steps[life.first] += life.count
        steps[life.last + 1] -= life.count
    live = tuple(accumulate(steps[:length]))
    return ActivationMemory(tuple(new[place] for place in range(length)), live)


def memory_of(node: fx.Node) -> Iterator[tuple[int, int]]:
    """Lists the memory under the value of a node: (identity, bytes) of each of its tensors."""
    for leaf in pytree.tree_leaves(node.meta.get("val")):
        if not isinstance(leaf, torch.Tensor):
            continue
        if leaf.layout == torch.strided:
            storage = leaf.untyped_storage()
            yield storage._cdata, storage.nbytes()
        else:
            yield id(leaf), leaf.numel() * leaf.element_size()
