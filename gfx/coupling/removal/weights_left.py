"""Tells which elements of a tensor computed from weights a removal leaves, and their values.

Before   a node that is computed from the program's tensors, element by element or by moving data
After    its whole value, which of its elements stay, and its value once the tensors are cut
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from gfx.coupling.normalised_weights import MOVES, is_placed
from gfx.coupling.removal.new_sizes import Sizes
from gfx.ir.interpreter import Interpreter, ancestors
from gfx.ir.ops import op_name
from gfx.ir.program import Program

__all__ = ["Left", "counts", "cut_value", "left_of", "one_in_each_row"]


@dataclass(frozen=True)
class Left:
    """What stays of a tensor: `whole` before the removal, `stays` of the same shape."""

    whole: Tensor
    stays: Tensor  # bool

    def in_rows_that_stay(self, dims: tuple[int, ...]) -> "Left":
        """Drops each index, of a dimension not in `dims`, of which no element stays."""
        whole, stays = self.whole, self.stays
        for d in range(whole.ndim):
            if d not in dims:
                others = [e for e in range(whole.ndim) if e != d]
                alive = (stays.any(dim=others) if others else stays).nonzero().flatten()
                whole, stays = whole.index_select(d, alive), stays.index_select(d, alive)
        return Left(whole, stays)


def left_of(program: Program, sizes: Sizes, node: fx.Node) -> Left | None:
    """Finds what stays of a node's value; None if it is not computed from tensors place by place.

    The nodes on the way get the shapes that they will have.
    """
    above = ancestors([node])
    if not all(is_placed(n) for n in above):
        return None
    if any(n.op == "get_attr" and program.tensor(str(n.target)).is_meta for n in above):
        return None  # without content there is nothing to learn, and what is stored costs as much
    runner = Interpreter(program.module)
    whole: dict[fx.Node, Any] = {}
    stays: dict[fx.Node, Any] = {}
    try:
        with torch.no_grad():
            for each in program.graph.nodes:
                if each in above:
                    whole[each] = _whole(program, runner, each, whole)
                    stays[each] = _stays(program, sizes, runner, each, whole, stays)
                    if op_name(each) in ("view", "reshape") and isinstance(whole[each], Tensor):
                        sizes.views[each] = counts(stays[each])
            cut = cut_value(program, sizes, node)
    except RuntimeError:  # a literal of the graph fits the whole tensor only
        return None
    left = Left(whole[node], stays[node])
    if cut.shape.numel() != int(left.stays.sum()) or cut.shape != counts(left.stays):
        return None
    # a function may round otherwise where its elements lie otherwise
    same = torch.allclose(cut.flatten(), left.whole[left.stays], rtol=1e-2, atol=0, equal_nan=True)
    return left if same else None


def counts(stays: Tensor) -> torch.Size:
    """Counts the indices of each dimension of which some element stays."""
    dims = range(stays.ndim)
    others = [[e for e in dims if e != d] for d in dims]
    return torch.Size([int((stays.any(dim=o) if o else stays).sum()) for o in others])


def one_in_each_row(
    program: Program,
    sizes: Sizes,
    moved: fx.Node,
    source: fx.Node,
    shift: fx.Node,
    dims: tuple[int, ...],
) -> bool:
    """Whether a reduction over `dims` of source - shift, moved as `moved` is, reads one shift."""
    try:
        shape = cut_value(program, sizes, source).shape
        own = sizes.after[shift].shape
        numbers = torch.arange(own.numel()).view(own).expand(shape)
        if moved in sizes.views:
            placed = numbers.reshape(sizes.views[moved])
        else:
            runner = Interpreter(program.module)
            placed = runner.value(moved, lambda n: numbers if n is source else sizes.after[n])
    except RuntimeError:  # a literal of the graph fits the whole tensor only
        return False
    return torch.equal(placed.amax(dims), placed.amin(dims))


def _whole(program: Program, runner: Interpreter, node: fx.Node, known: dict[fx.Node, Any]) -> Any:
    if node.op == "get_attr":
        return program.tensor(str(node.target)).detach()
    return runner.value(node, known.__getitem__)


def _stays(
    program: Program,
    sizes: Sizes,
    runner: Interpreter,
    node: fx.Node,
    whole: dict[fx.Node, Any],
    stays: dict[fx.Node, Any],
) -> Any:
    value = whole[node]
    if not isinstance(value, Tensor):
        return value
    if node.op == "get_attr":
        mask = torch.ones(value.shape, dtype=torch.bool, device=value.device)
        for dim, alive in _axes(sizes, str(node.target)).items():
            view = [-1 if d == dim else 1 for d in range(value.ndim)]
            mask = mask & alive.to(value.device).view(view)
        return mask
    if op_name(node) in MOVES:
        return runner.value(node, stays.__getitem__)
    mask = torch.ones(value.shape, dtype=torch.bool, device=value.device)
    for source in node.all_input_nodes:
        if isinstance(stays[source], Tensor):
            mask = mask & stays[source]
    return mask


def _axes(sizes: Sizes, path: str) -> dict[int, Tensor]:
    """Maps the dimensions of a tensor that will be cut to the indices that stay."""
    found = {}
    for axis in sizes.groups.axes.get(path, ()):
        if axis is not None and not (stay := sizes.kept[axis.ids]).all():
            found[axis.dim] = torch.from_numpy(stay)
    return found


def cut_value(program: Program, sizes: Sizes, node: fx.Node) -> Tensor:
    """Computes a node from the tensors as they will be cut.

    Raises: RuntimeError if a literal on the way does not fit them.
    """
    above, runner = ancestors([node]), Interpreter(program.module)
    values: dict[fx.Node, Any] = {}
    with torch.no_grad():
        for each in program.graph.nodes:
            if each not in above:
                continue
            if each in sizes.views:
                value = values[each.all_input_nodes[0]].reshape(sizes.views[each])
            else:
                value = _whole(program, runner, each, values)
            if each.op == "get_attr":
                for dim, alive in _axes(sizes, str(each.target)).items():
                    index = alive.nonzero().flatten().to(value.device)
                    value = value.index_select(dim, index)
            values[each] = value
            if isinstance(value, Tensor):  # what constants have on the way is not predicted
                sizes.after[each] = torch.empty_like(value, device="meta")
    found: Tensor = values[node]
    return found
