"""Masks follow the channels that they mask."""

import numpy as np
import torch

from gfx.coupling.rules.masks import positions
from gfx.edit.sizes import Sizes
from gfx.modules import ChannelMask
from gfx.program import Program

__all__ = ["renumber"]


def renumber(program: Program, sizes: Sizes) -> None:
    """Lets the indices of masks count the channels that stay; before any tensor is cut.

    Example: of 0 1 2 -1 2, where channel 1 goes, 0 1 1 -1 1 is left, in the place of 0 2 -1 2.
    """
    done: set[int] = set()
    for node in program.nodes():
        module = program.submodule(node) if node.op == "call_module" else None
        if not isinstance(module, ChannelMask):
            continue
        index = positions(program, node)
        if index is None or id(index) in done:
            continue
        done.add(id(index))
        (axis,) = sizes.flow.axes[sizes.flow.paths[id(module.mask)]]
        if axis is not None:
            now = np.cumsum(sizes.kept[axis.ids]) - 1
            ranks = torch.from_numpy(now).to(index)
            index.copy_(torch.where(index < 0, index, ranks[index]))
