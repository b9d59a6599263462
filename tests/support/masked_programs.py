"""Puts gfx's own layers into programs by hand: masks where channels are read, taps, masked layers.

It knows nothing of the pass that does so for users, so that each can be held to the other.
"""

import numpy as np
import torch
from torch import fx, nn

import gfx
from gfx.coupling import Group, Groups
from gfx.coupling.call import Read
from gfx.coupling.rules.gfx_modules import period
from gfx.ir.modules import MASKED, ChannelMask, LearnedMask, Penalty, Tap, masked_layer
from gfx.ir.program import Program
from gfx.ir.shapes.propagate import propagate

__all__ = ["all_masked", "masked_weights", "masks_of", "tapped", "with_masks", "zeroed_masks"]


def with_masks(program: Program, kind: type[ChannelMask] = ChannelMask) -> Program:
    """Copies a program and puts a mask of ones wherever channels of a free group are read."""
    twin = program.copy()
    groups = gfx.channels(twin)
    free = [g for g in groups if g.free and g.exact]
    twin.module.add_module("masks", nn.Module())
    for read in groups.reads:
        for group in free:
            if np.isin(groups.roots[read.ids], group.roots).any():
                _mask(twin, groups, group, read, kind)
    twin.recompile()
    return twin


def _mask(
    program: Program, groups: Groups, group: Group, read: Read, kind: type[ChannelMask]
) -> None:
    name = group.name.replace(".", "_")
    masks = program.module.get_submodule("masks")
    if not hasattr(masks, name):
        masks.add_module(name, like(kind(group.size), program))
    module = masks.get_submodule(name)
    assert isinstance(module, ChannelMask)
    channel = {int(root): k for k, root in enumerate(group.roots)}
    numbers = [channel.get(int(root), -1) for root in groups.roots[read.ids]]
    numbers = numbers[: period(groups.roots[read.ids])]  # of a batch that is folded in
    path = f"masks.{name}"
    operand = next(n for n in read.node.all_input_nodes if source(n) is read.operand)
    with program.graph.inserting_before(read.node):
        given: tuple = ()
        if numbers != list(range(group.size)):
            given = (program.graph.get_attr(f"{path}.{module.add_index(torch.tensor(numbers))}"),)
        new = program.graph.call_module(path, (operand, read.dim, *given))
    read.node.replace_input_with(operand, new)


def source(node: fx.Node) -> fx.Node:
    """Goes back through the masks that were put there before."""
    while node.op == "call_module" and str(node.target).startswith("masks."):
        node = node.all_input_nodes[0]
    return node


def like(module: nn.Module, program: Program) -> nn.Module:
    """Gives a module the type of the program's numbers."""
    dtypes = [p.dtype for p in program.module.parameters() if p.is_floating_point()]
    return module.to(dtypes[0]) if dtypes else module


def tapped(program: Program, kinds: tuple[type[nn.Module], ...] = (Tap, Penalty)) -> Program:
    """Copies a program and puts an identity behind every layer: of the kinds, in turn."""
    twin = program.copy()
    twin.module.add_module("taps", nn.Module())
    calls = [n for n in twin.nodes() if n.op == "call_module"]
    for i, node in enumerate(calls):
        if not isinstance(node.meta.get("val", torch.empty(0)), torch.Tensor):
            continue
        name = f"{str(node.target).replace('.', '_')}_{i}"
        module = kinds[i % len(kinds)]()
        twin.module.get_submodule("taps").add_module(name, module)
        with twin.graph.inserting_after(node):
            new = twin.graph.call_module(f"taps.{name}", (node,))
        node.replace_all_uses_with(new, delete_user_cb=lambda user, new=new: user is not new)
    twin.recompile()
    return twin


def masked_weights(program: Program, seed: int = 0, share: float = 0.3) -> Program:
    """Copies a program and masks some of the weights of every plain layer at random."""
    twin = program.copy()
    generator = torch.Generator().manual_seed(seed)
    made: dict[int, nn.Module] = {}
    for path, module in list(twin.module.named_modules(remove_duplicate=False)):
        if type(module) not in MASKED:
            continue
        if id(module) not in made:
            masked = made[id(module)] = masked_layer(module)
            drawn = torch.rand(masked.mask.shape, generator=generator) >= share
            masked.mask.copy_(drawn)
        owner, _, name = path.rpartition(".")
        setattr(twin.module.get_submodule(owner), name, made[id(module)])
    twin.recompile()
    return twin


def all_masked(program: Program, seed: int = 0) -> Program:
    """Copies a program and does all of this to it."""
    propagate(program)
    return masked_weights(tapped(with_masks(program)), seed)


def masks_of(program: Program) -> dict[str, ChannelMask]:
    """Finds the masks of channels by path."""
    found = program.module.named_modules()
    return {path: m for path, m in found if isinstance(m, ChannelMask)}


def zeroed_masks(program: Program, seed: int = 0, share: float = 0.3) -> Program:
    """Copies a program and zeroes some entries of every mask; one stays."""
    twin = program.copy()
    generator = torch.Generator().manual_seed(seed)
    for mask in masks_of(twin).values():
        drawn = torch.rand(mask.size, generator=generator)
        if isinstance(mask, LearnedMask):
            mask.m.data.copy_(drawn)
            mask.binarize(share)
        else:
            mask.mask.copy_((drawn >= share) | (drawn == drawn.max()))
    return twin
