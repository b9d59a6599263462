"""Removes channels: every member tensor is sliced, then the program is repaired around them."""

import torch
from torch import Tensor, fx, nn

from gfx.coupling import Groups
from gfx.edit.literals import repair, rms_norm
from gfx.edit.modules import fit
from gfx.edit.settle import store
from gfx.edit.sizes import Mask, Sizes
from gfx.errors import EditError
from gfx.program import Program
from gfx.shapes import propagate

__all__ = ["remove"]


def remove(program: Program, groups: Groups, removed: Mask) -> tuple[str, ...]:
    """Removes channels from a program, in place.

    Args:
        program: the program that `groups` was found on.
        groups: its channel groups.
        removed: by class of labels (`group.roots`), whether it goes.

    Returns: the nodes that compute statistics of weights, whose values are now stored.
    Raises: EditError if a node would not have the shape that the analysis foretold; the program
        is then no longer usable.
    """
    sizes = Sizes(groups, removed)
    _ = sizes.after  # computed from the old shapes, which the edits below overwrite
    stored = store(program, sizes)
    _slice_tensors(program, sizes)
    for node in program.nodes():
        if node.op == "output" or not sizes.changed(node):
            continue
        if node.op == "call_module":
            _fit(program, node, sizes)
        elif (
            sizes.holds_tensor(node) or node.meta["val"] is None
        ):  # arithmetic on sizes repairs itself
            repair(node, sizes)
    program.recompile()
    propagate(program)
    _check(program, sizes)
    return stored


def _fit(program: Program, node: fx.Node, sizes: Sizes) -> None:
    module = program.submodule(node)
    if isinstance(module, nn.RMSNorm):
        rms_norm(node, sizes)  # its mean is corrected in the graph as well
    fit(module, tuple(sizes.after[node].shape), regroup=sizes.flow.group_norm == "regroup")


def _slice_tensors(program: Program, sizes: Sizes) -> None:
    """Cuts every tensor that loses channels, once for all the places that hold it."""
    homes = _homes(program.module)
    for path, axes in sizes.flow.axes.items():
        old = program.tensor(path)
        new = old.detach()
        for axis in axes:
            if axis is None:
                continue
            stay = sizes.kept[axis.ids]
            if not stay.all():
                index = torch.from_numpy(stay.nonzero()[0]).to(old.device)
                new = new.index_select(axis.dim, index)
        if new.shape == old.shape:
            continue
        if isinstance(old, nn.Parameter):
            new = nn.Parameter(new, requires_grad=old.requires_grad)
        for owner, name in homes[id(old)]:
            setattr(owner, name, new)


def _homes(module: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """Maps each tensor's identity to every attribute that holds it."""
    found: dict[int, list[tuple[nn.Module, str]]] = {}
    for owner in module.modules():
        held = {**owner._parameters, **owner._buffers, **owner.__dict__}
        for name, value in held.items():
            if isinstance(value, Tensor):
                found.setdefault(id(value), []).append((owner, name))
    return found


def _check(program: Program, sizes: Sizes) -> None:
    """Compares the shapes that came out with those foretold."""
    for node, foretold in sizes.after.items():
        value = node.meta.get("val")
        # a node that a repair replaced has no value any more
        if (
            isinstance(foretold, Tensor)
            and isinstance(value, Tensor)
            and value.shape != foretold.shape
        ):
            raise EditError(
                f"node {node.name} has shape {tuple(value.shape)} after the removal, expected "
                f"{tuple(foretold.shape)}; please report this program as a bug"
            )
