"""Takes masks and penalties out of a graph, and remembers what the masks zeroed."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import fx

from gfx.coupling.labels import Mask
from gfx.coupling.rules.masks import positions
from gfx.edit.arguments import argument
from gfx.edit.reference import constant
from gfx.lineage import stands_for
from gfx.modules import ChannelMask, Penalty, spread
from gfx.program import Program

__all__ = ["Zeroed", "multiplied", "strip"]


@dataclass(frozen=True)
class Zeroed:
    """What a node reads as zero, of one value, along one dimension."""

    user: fx.Node
    source: fx.Node
    dim: int
    zeros: Mask  # by position along `dim`
    masks: tuple[str, ...]  # paths of the masks that say so


def strip(program: Program) -> list[Zeroed]:
    """Lets every node read what it read without masks and penalties, and erases these.

    The graph then computes something else: the caller puts the zeros elsewhere. Only where a node
    reads one value both masked and not is the mask kept at once, as a product with a constant.

    Returns: the zeros of each read, if it has any.
    """
    seen: dict[fx.Node, tuple[fx.Node, tuple[Zeroed, ...]]] = {}
    for node in program.nodes():
        module = program.submodule(node) if node.op == "call_module" else None
        if isinstance(module, ChannelMask | Penalty):
            source, zeros = _behind(seen, argument(node, 0, "x"))
            if isinstance(module, ChannelMask):
                zeros = _with(program, node, module, source, zeros)
            seen[node] = source, zeros
    found: list[Zeroed] = []
    for node, (source, zeros) in seen.items():
        for user in tuple(node.users):
            if user not in seen:
                found += _reroute(program, seen, user, node, source, zeros)
    for node in reversed(seen):  # users first
        program.graph.erase_node(node)
    return found


def multiplied(program: Program, source: fx.Node, dim: int, zeros: Mask) -> fx.Node:
    """Inserts a product with a constant that is zero at some positions, and returns it."""
    value = source.meta["val"]
    view = [1] * value.ndim
    view[dim] = -1
    ones = torch.from_numpy(~zeros).to(device=value.device, dtype=value.dtype).view(view)
    with program.graph.inserting_after(source):
        factor = constant(program, ones, "zeros")
    with program.graph.inserting_after(factor):
        product = program.graph.call_function(torch.mul, (source, factor))
    stands_for(factor, None)
    stands_for(product, source)
    product.meta["val"] = value
    return product


Seen = dict[fx.Node, tuple[fx.Node, tuple[Zeroed, ...]]]


def _behind(seen: Seen, node: fx.Node) -> tuple[fx.Node, tuple[Zeroed, ...]]:
    """Looks through masks and penalties: what they hold, and the zeros on the way."""
    return seen.get(node, (node, ()))


def _with(
    program: Program,
    node: fx.Node,
    module: ChannelMask,
    source: fx.Node,
    zeros: tuple[Zeroed, ...],
) -> tuple[Zeroed, ...]:
    """Adds the zeros of one mask to those before it."""
    dim = int(argument(node, 1, "dim", default=1)) % source.meta["val"].ndim
    size = source.meta["val"].shape[dim]
    here = ~spread(module.mask, size, positions(program, node)).cpu().numpy()
    if not here.any():
        return zeros
    added = Zeroed(node, source, dim, here, (str(node.target),))
    same = next((z for z in zeros if z.dim == dim), None)
    if same is None:
        return (*zeros, added)
    both = replace(same, zeros=same.zeros | here, masks=(*same.masks, *added.masks))
    return tuple(both if z is same else z for z in zeros)


def _reroute(
    program: Program,
    seen: Seen,
    user: fx.Node,
    node: fx.Node,
    source: fx.Node,
    zeros: tuple[Zeroed, ...],
) -> Iterator[Zeroed]:
    """Lets a user of a mask read what is behind it."""
    read = Counter(_behind(seen, n)[0] for n in user.all_input_nodes)
    if read[source] == 1:
        user.replace_input_with(node, source)
        yield from (replace(z, user=user) for z in zeros)
        return
    for z in zeros:  # the other read of the same value has other zeros
        source = multiplied(program, source, z.dim, z.zeros)
    user.replace_input_with(node, source)
