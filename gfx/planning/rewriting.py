"""Makes the programs that plans are of."""

from collections.abc import Mapping

import torch

from gfx.coupling import Groups
from gfx.coupling.labels import Mask
from gfx.edit import narrowed, split
from gfx.factoring import Form, refusal, skeleton
from gfx.planning.layers import layers_of
from gfx.probing import weakest
from gfx.program import Program

__all__ = ["removal", "rewritten"]


def removal(groups: Groups, widths: Mapping[str, int]) -> Mask:
    """Marks the weakest channels of some groups, so that as many stay as the widths say.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> int(removal(groups, {"project.conv": 20}).sum())
        12
    """
    removed = groups.none_removed()
    for name, width in widths.items():
        removed |= weakest(groups, groups[name], width / groups[name].size)
    return removed


def rewritten(
    groups: Groups, forms: Mapping[str, Form], widths: Mapping[str, int], *, content: bool = False
) -> Program:
    """Makes a program with other forms and widths, to count it or time it.

    What it computes means nothing: of narrowed groups the last channels go, and other forms have
    weights as torch draws them; without content, there are shapes alone.

    Example:
        >>> import gfx
        >>> groups = gfx.channels(gfx.trace(gfx.zoo.build("dcgan", ngf=4)))
        >>> small = rewritten(groups, {"to_rgb": Form()}, {"project.conv": 20})
        >>> small.tensor("to_rgb.depthwise.weight").shape, small.tensor("project.conv.weight").shape
        (torch.Size([4, 1, 4, 4]), torch.Size([100, 20, 4, 4]))
    """
    small = narrowed(groups.flow, widths, content=content)
    with torch.random.fork_rng(devices=[]):  # whoever draws next draws the same
        for layer in layers_of(small):
            form = forms.get(layer.path)
            if form is not None and not refusal(layer.module, form):
                device = layer.convolution.weight.device
                split(small, layer.path, skeleton(layer.convolution, form, device))
    small.recompile()
    return small
