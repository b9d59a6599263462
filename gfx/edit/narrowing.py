"""Makes a program with other widths, to count it or time it."""

from collections.abc import Mapping

from torch import Tensor
from torch.utils import _pytree as pytree

from gfx.coupling import analyse
from gfx.coupling.flow import Flow
from gfx.edit.remove import remove
from gfx.modules import without_content
from gfx.program import Program

__all__ = ["narrowed"]


def narrowed(flow: Flow, widths: Mapping[str, int], *, content: bool = True) -> Program:
    """Returns a copy of an analysed program with some free groups, by name, at other widths.

    Which channels stay does not matter to whoever counts or times it: the first ones do. Without
    content there are shapes alone, inputs too.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> small = narrowed(groups.flow, {group.name: 3 for group in groups.free})
        >>> sum(p.numel() for p in small.module.parameters())
        5400
    """
    small = flow.program.copy()
    if not content:
        without_content(small.module)
        small.example_inputs = pytree.tree_map_only(
            Tensor, lambda x: x.to("meta"), small.example_inputs
        )
    own = analyse(small, attention=flow.attention, group_norm=flow.group_norm)
    removed = own.none_removed()
    for name, width in widths.items():
        removed[own[name].roots[int(width) :]] = True
    if removed.any():
        remove(small, own, removed)
    return small
