"""Puts masks into programs by hand: what a removal must equal, with gfx's own mask modules."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, fx, nn

from gfx.coupling import Group, Groups, analyse
from gfx.importance.sites import sites_of
from gfx.modules import MASKED, ChannelMask, masked_layer
from gfx.program import Program

__all__ = ["mask_channels", "mask_elements", "mask_output", "zero_some"]


def mask_channels(program: Program, among: Sequence[str] | None = None) -> dict[str, ChannelMask]:
    """Puts a mask of ones on every read of each free, exact group; returns them by group."""
    groups = analyse(program)
    chosen = [g for g in groups if g.free and g.exact and (among is None or g.name in among)]
    masks = {group.name: _mask(program, groups, group) for group in chosen}
    program.recompile()
    return masks


def mask_output(program: Program, path: str, size: int, dim: int = 1) -> ChannelMask:
    """Puts a mask on what one module gives."""
    mask = ChannelMask(size, granularity="filter")
    name = _added(program, f"{path}.out", mask)
    for node in program.nodes():
        if node.op == "call_module" and node.target == path:
            with program.graph.inserting_after(node):
                masked = program.graph.call_module(name, (node, dim))
            _stand_in(masked, node)
    program.recompile()
    return mask


def mask_elements(program: Program) -> list[nn.Module]:
    """Puts a masked layer in the place of each layer that has one."""
    found: dict[int, nn.Module] = {}
    for path, module in list(program.module.named_modules(remove_duplicate=False)):
        if type(module) in MASKED and "weight" in module._parameters:  # none that is computed
            layer = found.setdefault(id(module), masked_layer(module))
            program.module.set_submodule(path, layer)
    return list(found.values())


def zero_some(mask: Tensor, seed: int, share: float = 0.5) -> None:
    """Zeroes some entries of a mask, never all."""
    generator = torch.Generator().manual_seed(seed)
    stay = torch.rand(mask.shape, generator=generator) >= share
    if not stay.any():
        stay.view(-1)[int(torch.randint(mask.numel(), (), generator=generator))] = True
    mask.copy_(stay)


def _mask(program: Program, groups: Groups, group: Group) -> ChannelMask:
    mask = ChannelMask(group.size)
    name = _added(program, group.name, mask)
    for site in sites_of(groups, [group]):
        index = np.full(len(site.mine), -1)
        index[site.mine] = site.owners
        node, operand = site.read.node, site.read.operand
        with program.graph.inserting_before(node):
            args = (operand, site.read.dim, *_index(program, name, mask, index))
            masked = program.graph.call_module(name, args)
        # another dimension of the operand may be masked already
        node.replace_input_with(_behind(program, node, operand, masked), masked)
    return mask


def _behind(program: Program, node: fx.Node, operand: fx.Node, masked: fx.Node) -> fx.Node:
    """Finds the last mask on the way from an operand to its reader, and masks that."""
    for last in node.all_input_nodes:
        source = last
        while source.op == "call_module" and isinstance(program.submodule(source), ChannelMask):
            source = source.all_input_nodes[0]
        if source is operand:
            masked.update_arg(0, last)
            return last
    raise AssertionError(f"{node} does not read {operand}")


def _index(program: Program, name: str, mask: ChannelMask, index: np.ndarray) -> list[fx.Node]:
    if index.tolist() == list(range(mask.size)):
        return []
    buffer = f"index_{len(mask._buffers) - 1}"
    mask.register_buffer(buffer, torch.from_numpy(index))
    return [program.graph.get_attr(f"{name}.{buffer}")]


def _added(program: Program, path: str, mask: ChannelMask) -> str:
    name = f"masks.{path.replace('.', '_')}"
    program.module.add_submodule(name, mask)
    return name


def _stand_in(new: fx.Node, old: fx.Node) -> None:
    old.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
