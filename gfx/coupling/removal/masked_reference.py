"""Makes the reference of a removal: the original program with removed channels read as zero."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from gfx.coupling.call import Statistic
from gfx.coupling.groups import Groups
from gfx.coupling.labelled_tensor import Labeled
from gfx.coupling.labels import Mask
from gfx.coupling.removal.arguments import numbers, put
from gfx.ir.ops import argument, op_name
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate

__all__ = [
    "constant",
    "masked",
    "masks_of",
    "multiplied",
    "multiply",
    "restrict",
    "restrictions",
]


def masked(program: Program, groups: Groups, removed: Mask) -> None:
    """Zeroes removed channels where they are read, in place, and removes nothing.

    The result is what a removal must equal: the same as setting the consumers' weight slices for
    these channels to zero, and it works where the consumer is a product of two activations. Norms
    and softmax of approximate groups look at the channels that are left.
    """
    for (node, operand), mask in masks_of(groups, removed).items():
        multiply(program, node, operand, mask)
    for statistic, stays in restrictions(groups, removed):
        restrict(program, statistic, stays)
    program.recompile()
    propagate(program)


def masks_of(groups: Groups, removed: Mask) -> dict[tuple[fx.Node, fx.Node], Tensor]:
    """Returns masks by node and operand, where a node reads removed channels of an operand.

    Shapes: 1 for what stays and 0 for what goes, in a shape that broadcasts with the operand's; of
    one example where the batch is folded into the channels, see `multiplied`.
    """
    kept = groups.kept(removed)
    masks: dict[tuple[fx.Node, fx.Node], Tensor] = {}
    for read in groups.reads:
        stay = kept[read.channels]
        if stay.all():
            continue
        value = groups.value_of(read.operand)
        assert isinstance(value, Labeled)
        view = [1] * value.ndim
        view[read.dim] = len(stay)
        fake = read.operand.meta["val"]
        mask = torch.from_numpy(stay).to(device=fake.device, dtype=fake.dtype).view(view)
        # one node may read one operand along several dimensions
        key = (read.node, read.operand)
        masks[key] = masks[key] * mask if key in masks else mask
    return masks


def restrictions(groups: Groups, removed: Mask) -> list[tuple[Statistic, dict[int, Tensor]]]:
    """Lists the statistics that look at removed channels, and by dimension what stays of each.

    They are in the order in which `restrict` takes them: the later reads what the earlier widens.
    """
    kept = groups.kept(removed)
    found = []
    for statistic in reversed(groups.statistics):
        stays = {d: torch.from_numpy(kept[ids]) for d, ids in statistic.ids.items()}
        gone = {d: stay for d, stay in stays.items() if not stay.all()}
        if gone:
            found.append((statistic, gone))
    return found


def multiply(program: Program, node: fx.Node, operand: fx.Node, mask: Tensor) -> None:
    """Makes a node read its operand times a constant mask."""
    with program.graph.inserting_before(node):
        factor = constant(program, mask)
        product = program.graph.call_function(multiplied, (operand, factor))
    node.replace_input_with(operand, product)


def multiplied(x: Tensor, mask: Tensor) -> Tensor:
    """Multiplies by a mask, which repeats over a batch that is folded into the channels.

    Example:
        >>> multiplied(torch.ones(1, 6), torch.tensor([[1.0, 0.0]]))
        tensor([[1., 0., 1., 0., 1., 0.]])
    """
    times = [n // m if m > 1 else 1 for n, m in zip(x.shape, mask.shape, strict=True)]
    return x * (mask if max(times) == 1 else mask.repeat(times))


def restrict(program: Program, statistic: Statistic, stays: dict[int, Tensor]) -> None:
    """Restricts a statistic to some channels, and scatters its output back to their positions."""
    node, x = statistic.node, statistic.operand
    shape, ndim = tuple(node.meta["val"].shape) if statistic.carries else (), x.meta["val"].ndim
    with program.graph.inserting_before(node):
        index = {
            d: constant(program, stay.nonzero()[:, 0].to(x.meta["val"].device))
            for d, stay in stays.items()
        }
        part = x
        for d, chosen in index.items():
            part = program.graph.call_function(torch.index_select, (part, d, chosen))
        if node.op == "call_module":
            _spell(program, node)
        node.replace_input_with(x, part)
        _narrow_vectors(program, node, ndim, index, stays)
    if not statistic.carries:
        return
    after = node
    for d, chosen in reversed(index.items()):
        with program.graph.inserting_after(after):
            wide = program.graph.call_function(_widen, (after, d, chosen, shape[d]))
        _stand_in(wide, after)
        after = wide


def _stand_in(new: fx.Node, old: fx.Node) -> None:
    """Replaces a node in all its users by another, except in that one itself."""
    old.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)


def _widen(x: Tensor, dim: int, index: Tensor, size: int) -> Tensor:
    """Puts slices at their indices of a dimension, with zeros between."""
    wide = x.new_zeros([*x.shape[:dim], size, *x.shape[dim + 1 :]])
    return wide.index_copy(dim, index, x)


def _spell(program: Program, node: fx.Node) -> None:
    """Turns a call of a norm's module into a call of its function; others run as they are."""
    module = program.submodule(node)
    if not isinstance(module, nn.LayerNorm | nn.GroupNorm):
        return
    vectors = [
        None if getattr(module, name) is None else program.graph.get_attr(f"{node.target}.{name}")
        for name in ("weight", "bias")
    ]
    for vector in vectors:
        if vector is not None:
            vector.meta["val"] = program.tensor(str(vector.target))
    node.op = "call_function"
    if isinstance(module, nn.LayerNorm):
        node.target = F.layer_norm
        node.args = (node.args[0], module.normalized_shape, *vectors, module.eps)
    else:
        node.target = F.group_norm
        node.args = (node.args[0], module.num_groups, *vectors, module.eps)


def _narrow_vectors(
    program: Program,
    node: fx.Node,
    ndim: int,
    index: dict[int, fx.Node],
    stays: dict[int, Tensor],
) -> None:
    """Narrows the scales and shifts of a norm, and the shape it normalises over."""
    name = op_name(node)
    if name == "layer_norm":
        given = numbers(argument(node, 1, "normalized_shape"))
        sizes: Sequence[Any] = [given] if isinstance(given, int) else list(given)
        first = ndim - len(sizes)
        new = [int(stays[d].sum()) if (d := first + i) in stays else n for i, n in enumerate(sizes)]
        put(node, 1, new, "normalized_shape")
    elif name == "group_norm":
        first = 1
    else:
        return
    for position, vector in ((2, "weight"), (3, "bias")):
        value = argument(node, position, vector)
        for d, chosen in index.items():
            if isinstance(value, fx.Node):
                value = program.graph.call_function(torch.index_select, (value, d - first, chosen))
        put(node, position, value, vector)


def constant(program: Program, value: Tensor, stem: str = "mask") -> fx.Node:
    """Adds a buffer under a fresh name, and a node that reads it at the insertion point."""
    name = fresh_name(program.module, stem)
    program.module.register_buffer(name, value)
    return program.graph.get_attr(name)


def fresh_name(module: nn.Module, stem: str) -> str:
    """Returns an attribute name that the module does not use yet."""
    count = 0
    while hasattr(module, f"{stem}_{count}"):
        count += 1
    return f"{stem}_{count}"
