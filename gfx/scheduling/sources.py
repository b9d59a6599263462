"""Which weights make the channels of a mask, and what they say of each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase

from gfx.coupling import Groups, analyse
from gfx.coupling.labels import Ids
from gfx.modules import ChannelMask, Penalty, Tap
from gfx.scheduling.finding import Held, Masked, program_of

__all__ = ["Source", "magnitudes", "sources_of"]


@dataclass(frozen=True)
class Source:
    """One dimension of a weight that a mask's channels lie along."""

    weight: Held
    dim: int
    index: Tensor  # positions along the dimension
    channel: Tensor  # the channel that each is of

    def sums(self, size: int) -> Tensor:
        """Adds up |w| for each channel; in float32, of float64 weights in float64."""
        value = self.weight.value.detach()
        wide = torch.promote_types(value.dtype, torch.float32)
        others = [d for d in range(value.ndim) if d != self.dim]
        each = value.to(wide).abs().sum(others) if others else value.to(wide).abs()
        total = torch.zeros(size, dtype=wide, device=value.device)
        return total.index_add(0, self.channel.to(value.device), each[self.index.to(value.device)])

    def means(self, size: int) -> Tensor:
        """Averages |w| over what each channel has of it."""
        value = self.weight.value
        each = torch.bincount(self.channel, minlength=size).clamp_min(1)
        return self.sums(size) / (each.to(value.device) * (value.numel() / value.shape[self.dim]))


def magnitudes(sources: Sequence[Source], size: int, device: torch.device) -> Tensor:
    """Scores channels by Σ|w|, divided by the mean of each layer and averaged over the layers.

    Layers that are all zero say nothing. It is what `gfx.importance.rank` calls l1.

    Shapes: (size,).
    """
    total = torch.zeros(size, device=device)
    layers = torch.zeros((), device=device)
    for source in sources:
        row = source.sums(size).to(device)
        mean = row.mean()
        total = total + torch.where(mean == 0, row, row / mean)
        layers = layers + (mean != 0)
    return total / layers.clamp_min(1)


def sources_of(masks: Iterable[Masked]) -> dict[str, list[Source]]:
    """Finds the weights behind masks of channels, by the name of the mask.

    Each graph is analysed once, as a copy that shares its parameters. A mask of filters follows the
    layer that it masks, one of slimming the norms, one of l1 the layers that write its channels;
    any other follows all that write or read them.
    """
    homes: dict[int, list[Masked]] = {}
    for mask in masks:
        homes.setdefault(id(mask.home), []).append(mask)
    found = {}
    for mine in homes.values():
        groups = analyse(program_of(mine[0].home))
        for mask in mine:
            found[mask.name] = _sources(groups, mask)
    return found


def _sources(groups: Groups, mask: Masked) -> list[Source]:
    """Lists the weights that a mask's entries share channels with."""
    flow, module = groups.flow, mask.module
    assert isinstance(module, ChannelMask)
    axes = flow.axes.get(flow.paths.get(id(module.mask), ""), ())
    if not axes or axes[0] is None:
        return []  # a mask of one channel: nothing can go
    classes = groups.roots[axes[0].ids]
    prefix = mask.name.removesuffix(mask.path)
    every: dict[str, list[tuple[str, Source]]] = {"out": [], "in": [], "": []}
    for path, dims in flow.axes.items():
        owner, _, leaf = path.rpartition(".")
        holder = mask.home.get_submodule(owner)
        if not isinstance(getattr(holder, leaf), nn.Parameter) or isinstance(holder, ChannelMask):
            continue
        for axis in dims:
            source = None if axis is None else _shared(classes, groups.roots[axis.ids])
            if axis is not None and source is not None:
                held = Held(holder, leaf, f"{prefix}{path}")
                role = flow.roles.get((path, axis.dim), "")
                every[role].append((owner, Source(held, axis.dim, *source)))
    if module.granularity == "filter" and every["out"]:
        own = _writer(groups, mask, [owner for owner, _ in every["out"]])
        return [s for owner, s in every["out"] if own is None or owner == own]
    roles = {"slimming": every[""], "l1": every["out"]}
    return [s for _, s in roles.get(module.kind, every["out"] + every["in"] or every[""])]


def _shared(classes: Ids, other: Ids) -> tuple[Tensor, Tensor] | None:
    """Returns the positions of a dimension that are channels of a mask, and which."""
    order = np.argsort(classes, kind="stable")
    place = np.searchsorted(classes[order], other).clip(max=len(classes) - 1)
    channel = order[place]
    mine = classes[channel] == other
    if not mine.any():
        return None
    return torch.from_numpy(mine.nonzero()[0]), torch.from_numpy(channel[mine])


def _writer(groups: Groups, mask: Masked, writers: Sequence[str]) -> str | None:
    """Returns the layer whose filters a mask is of; None if it is of all that write."""
    if len(set(writers)) == 1:
        return writers[0]
    program = groups.flow.program
    node: fx.Node | None = next(n for n in program.graph.nodes if n.target == mask.path)
    while node is not None and node.op == "call_module":
        if str(node.target) in writers:
            return str(node.target)
        passed = isinstance(program.submodule(node), ChannelMask | Tap | Penalty | _NormBase)
        node = node.all_input_nodes[0] if passed else None
    return None
