"""Removes channels: slices every member tensor, then repairs the program around them.

`narrowed` gives a program at other widths, to count it or to time it.
"""

from collections.abc import Mapping
from copy import copy

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from gfx.coupling.analysis import analyse_like
from gfx.coupling.groups import Groups
from gfx.coupling.labelled_tensor import Labeled
from gfx.coupling.labels import Mask
from gfx.coupling.removal.literals import repair
from gfx.coupling.removal.masked_reference import fresh_name
from gfx.coupling.removal.module_attributes import fit, note_indices, renumber
from gfx.coupling.removal.new_sizes import Sizes
from gfx.coupling.removal.norm_corrections import rms_norm
from gfx.coupling.removal.stored_statistics import store
from gfx.errors import EditError
from gfx.ir.memory_format import in_format_of
from gfx.ir.modules import without_content
from gfx.ir.node_origin import narrow
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate

__all__ = ["narrowed", "remove"]

_WORTH = 4  # elements of a kernel from which copying kernels one by one is the faster way


def remove(
    program: Program, groups: Groups, removed: Mask, *, elastic: Mask | None = None
) -> tuple[str, ...]:
    """Removes channels from a program, in place.

    Args:
        program: the program that `groups` was found on.
        groups: its channel groups.
        removed: by class of labels (`group.roots`), whether it goes.
        elastic: the classes that may go at other widths: the graph has the same form at any, see
            `Sizes`.

    Returns: the nodes that compute statistics of weights, whose values are now stored.
    Raises: EditError if a node would not have the shape that the analysis predicted; the program
        is then no longer usable.
    """
    sizes = Sizes(groups, removed, elastic)
    _ = sizes.after  # computed from the old shapes, which the edits below overwrite
    stored = store(program, sizes)
    renumber(program, sizes)
    _slice_tensors(program, sizes)
    note_indices(program)
    for node in program.nodes():
        if node.op == "output" or not sizes.changed(node):
            continue
        if node.op == "call_module":
            _fit(program, node, sizes)
        # arithmetic on sizes repairs itself
        elif sizes.holds_tensor(node) or node.meta["val"] is None:
            try:
                repair(node, sizes)
            except EditError as error:
                error.node = node.name
                raise
    _record(program, sizes)
    program.recompile()
    propagate(program)
    _check(program, sizes)
    return stored


def _record(program: Program, sizes: Sizes) -> None:
    """Notes on each node which channels of what it stands for are left."""
    for node in program.nodes():
        value = sizes.value_of(node)
        if not isinstance(value, Labeled) or value.shape == sizes.shape(value):
            continue
        alive = {d: sizes.alive(value, d) for d in range(value.ndim)}
        narrow(node, {d: stay.nonzero()[0].tolist() for d, stay in alive.items() if not stay.all()})


def _fit(program: Program, node: fx.Node, sizes: Sizes) -> None:
    module = program.submodule(node)
    if _is_bare_norm(module) and _of_another_width(program, node, sizes):
        module = _own_copy(program, node, module)
    if isinstance(module, nn.RMSNorm):
        rms_norm(node, sizes)  # its mean is corrected in the graph as well
    fit(module, tuple(sizes.after[node].shape), regroup=sizes.groups.regroups(node))


def _is_bare_norm(module: nn.Module) -> bool:
    """Whether a norm has no tensors, so that its calls may be of several widths."""
    kind = nn.modules.instancenorm._InstanceNorm
    return isinstance(module, kind) and not module.state_dict()


def _of_another_width(program: Program, node: fx.Node, sizes: Sizes) -> bool:
    """Whether a layer is called elsewhere on as many channels as it will not have here."""
    others = [n for n in program.graph.nodes if n.op == "call_module" and n.target == node.target]
    return any(sizes.after[n].shape[1] != sizes.after[node].shape[1] for n in others)


def _own_copy(program: Program, node: fx.Node, module: nn.Module) -> nn.Module:
    """Gives one call of a layer a copy of it."""
    name = fresh_name(program.module, str(node.target).replace(".", "_"))
    program.module.add_submodule(name, copy(module))
    node.target = name
    return program.module.get_submodule(name)


def _slice_tensors(program: Program, sizes: Sizes) -> None:
    """Cuts every tensor that loses channels, once for all the places that hold it."""
    homes = _homes(program.module)
    for path, axes in sizes.groups.axes.items():
        stays = {axis.dim: sizes.kept[axis.ids] for axis in axes if axis is not None}
        stays = {dim: stay for dim, stay in stays.items() if not stay.all()}
        if not stays:
            continue
        old = program.tensor(path)
        new = _cut(old.detach(), stays)
        if isinstance(old, nn.Parameter):
            new = nn.Parameter(new, requires_grad=old.requires_grad)
        for owner, name in homes[id(old)]:
            setattr(owner, name, new)


def _cut(value: Tensor, stays: dict[int, Mask]) -> Tensor:
    """Copies the indices that stay, of each dimension that is cut, into a new tensor."""
    index = {dim: torch.from_numpy(stay.nonzero()[0]) for dim, stay in stays.items()}
    kernel = value[:1, :1].numel() if value.ndim > 1 else 0
    if stays.keys() == {0, 1} and kernel >= _WORTH and value.is_contiguous():
        # both at once: whole kernels are copied, and no others are looked at
        rows, columns = index[0], index[1]
        pairs = (rows[:, None] * value.shape[1] + columns).flatten().to(value.device)
        kernels = value.view(-1, kernel).index_select(0, pairs)
        return kernels.view(len(rows), len(columns), *value.shape[2:])
    cut = value
    for dim, positions in index.items():
        cut = cut.index_select(dim, positions.to(value.device))
    return in_format_of(cut, value)


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
    """Compares the shapes of the edited program with those predicted."""
    for node in program.nodes():  # some that were there are dead now
        value, expected = node.meta.get("val"), sizes.after.get(node)
        # a node that a repair replaced has no value any more
        if (
            isinstance(expected, Tensor)
            and isinstance(value, Tensor)
            and value.shape != expected.shape
        ):
            error = EditError(
                f"node {node.name} has shape {tuple(value.shape)} after the removal, expected "
                f"{tuple(expected.shape)}; please report this program as a bug"
            )
            error.node = node.name
            raise error


def narrowed(
    groups: Groups, widths: Mapping[str, int], *, content: bool = True, general: bool = False
) -> Program:
    """Returns a copy of an analysed program with some free groups, by name, at other widths.

    The first channels stay. Without content there are shapes alone, inputs too. With `general` the
    graph has the same form at any widths of these groups, see `Sizes`.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> small = narrowed(groups, {group.name: 3 for group in groups.free})
        >>> sum(p.numel() for p in small.module.parameters())
        5400
    """
    small = groups.program.copy(on_write=True)
    if not content:
        without_content(small.module)
        small.example_inputs = pytree.tree_map_only(
            Tensor, lambda x: x.to("meta"), small.example_inputs
        )
    own = analyse_like(groups, small)
    removed, elastic = own.none_removed(), own.none_removed()
    for name, width in widths.items():
        removed[own[name].roots[int(width) :]] = True
        elastic[own[name].roots] = True
    if removed.any() or general:
        remove(small, own, removed, elastic=elastic if general else None)
    return small
