"""Takes masks and penalties out of a graph, and records what the masks zeroed.

Layers that mask their weight become plain layers.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from gfx.coupling.labels import Mask
from gfx.coupling.removal.masked_reference import constant, fresh_name
from gfx.coupling.rules.gfx_modules import positions
from gfx.errors import PreconditionError
from gfx.ir.modules import ChannelMask, MaskedLayer, Penalty, plain_layer, spread
from gfx.ir.node_origin import stands_for
from gfx.ir.ops import argument
from gfx.ir.parametrizations import folding_in
from gfx.ir.program import Program

__all__ = ["Zeroed", "multiplied", "strip", "write_out"]


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
    here = ~spread(module.kept, size, positions(program, node)).cpu().numpy()
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


def write_out(program: Program) -> dict[str, tuple[MaskedLayer, nn.Module]]:
    """Writes the masks of weights into the weights; returns by path what was and what is.

    Layers that share a weight and mask it alike share it still. What else reads the weight reads it
    unmasked, as before.

    Raises: PreconditionError if a masked weight is computed from other tensors.
    """
    found = dict(_masked(program.module))
    for path, layer in found.items():
        if "weight" not in layer._parameters:
            raise PreconditionError(
                f"the weight of {path} is masked, and computed by a hook or parametrization; "
                f"{folding_in(program, path)}"
            )
    made: dict[int, nn.Module] = {}
    weights: dict[Any, nn.Parameter] = {}
    for layer in found.values():
        if id(layer) not in made:
            made[id(layer)] = plain = plain_layer(layer)
            plain.weight = _shared(layer, plain, weights)
    _keep_read(program, found)
    for path, layer in found.items():
        program.module.set_submodule(path, made[id(layer)])
    return {path: (layer, made[id(layer)]) for path, layer in found.items()}


def _masked(module: nn.Module) -> Iterator[tuple[str, MaskedLayer]]:
    for path, layer in module.named_modules(remove_duplicate=False):
        if isinstance(layer, MaskedLayer):
            yield path, layer


def _shared(layer: MaskedLayer, plain: Any, weights: dict[Any, nn.Parameter]) -> Any:
    """Returns the masked weight: one for all that mask the same weight alike."""
    if bool(layer.kept.all()):
        return layer.weight
    plain.weight.data.masked_fill_(~layer.kept, 0)  # a product may be -0
    key = (id(layer.weight), layer.kept.cpu().numpy().tobytes())
    return weights.setdefault(key, plain.weight)


def _keep_read(program: Program, found: dict[str, MaskedLayer]) -> None:
    """Lets nodes that read a weight itself, not through its layer, read the one without a mask."""
    raw = {f"{path}.weight": layer for path, layer in found.items() if not bool(layer.kept.all())}
    kept: dict[int, str] = {}
    for node in program.nodes():
        layer = raw.get(str(node.target)) if node.op == "get_attr" else None
        if layer is None:
            continue
        if id(layer.weight) not in kept:
            name = kept[id(layer.weight)] = fresh_name(program.module, node.name)
            program.module.register_parameter(name, layer.weight)  # type: ignore[arg-type]
        node.target = kept[id(layer.weight)]
