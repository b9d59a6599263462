"""Ranks the entries of masks by their current weights."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase

from gfx.compression.masks import fours
from gfx.coupling import Groups, analyse
from gfx.coupling.labels import Ids
from gfx.errors import InputError
from gfx.ir.modules import ChannelMask, MaskedLayer, Penalty, Tap
from gfx.train.schedule.choose_entries import two_of_four
from gfx.train.schedule.find_masks import HeldTensor, Masked, Penalised, kind_of, program_of

__all__ = ["Ranks", "Source", "magnitudes", "sources_of"]


@dataclass(frozen=True)
class Source:
    """One dimension of a weight that holds a mask's channels."""

    weight: HeldTensor
    dim: int
    index: Tensor  # positions along the dimension
    channel: Tensor  # the channel of each position

    def sums(self, size: int) -> Tensor:
        """Sums |w| for each channel; in float32, for float64 weights in float64."""
        value = self.weight.value.detach()
        wide = torch.promote_types(value.dtype, torch.float32)
        others = [d for d in range(value.ndim) if d != self.dim]
        each = value.to(wide).abs().sum(others) if others else value.to(wide).abs()
        total = torch.zeros(size, dtype=wide, device=value.device)
        return total.index_add(0, self.channel.to(value.device), each[self.index.to(value.device)])

    def means(self, size: int) -> Tensor:
        """Averages |w| over the slices of each channel."""
        value = self.weight.value
        each = torch.bincount(self.channel, minlength=size).clamp_min(1)
        return self.sums(size) / (each.to(value.device) * (value.numel() / value.shape[self.dim]))


def magnitudes(sources: Sequence[Source], size: int, device: torch.device) -> Tensor:
    """Scores channels by Σ|w|, divided by the mean of each layer and averaged over the layers.

    Layers that are all zero are left out. `gfx.compression.importance.rank` calls this l1.

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
    module = mask.module
    assert isinstance(module, ChannelMask)
    (entries,) = groups.axes_of(f"{mask.path}.mask")
    if entries is None:
        return []  # a mask of one channel: nothing can be removed
    classes = groups.roots[entries.ids]
    prefix = mask.name.removesuffix(mask.path)
    every: dict[str, list[tuple[str, Source]]] = {"out": [], "in": [], "": []}
    for path, dims in groups.axes.items():
        owner, _, leaf = path.rpartition(".")
        holder = mask.home.get_submodule(owner)
        if not isinstance(getattr(holder, leaf), nn.Parameter) or isinstance(holder, ChannelMask):
            continue
        for axis in dims:
            source = None if axis is None else _shared(classes, groups.roots[axis.ids])
            if axis is not None and source is not None:
                held = HeldTensor(holder, leaf, f"{prefix}{path}")
                role = groups.role(path, axis.dim)
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
    program = groups.program
    node: fx.Node | None = next(n for n in program.graph.nodes if n.target == mask.path)
    while node is not None and node.op == "call_module":
        if str(node.target) in writers:
            return str(node.target)
        passed = isinstance(program.submodule(node), ChannelMask | Tap | Penalty | _NormBase)
        node = node.all_input_nodes[0] if passed else None
    return None


class Ranks:
    """Scores the entries of masks; finds their weights once.

    Example:
        >>> import gfx
        >>> from torch import nn
        >>> from gfx.train.schedule.find_masks import masked_in
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1))
        >>> masks = list(masked_in(gfx.apply({"passes": ["mask"]}, model)))
        >>> Ranks(masks, []).scores(masks[0], 0).shape
        torch.Size([8])
    """

    def __init__(self, masks: Sequence[Masked], penalised: Sequence[Penalised]) -> None:
        ranked = [m for m in masks if isinstance(m.module, ChannelMask) and kind_of(m) != "ppcd"]
        self._sources = sources_of(ranked)
        self._penalised = penalised
        for mask in masks:
            if isinstance(mask.module, MaskedLayer):
                _check_pattern(mask.name, mask.module)

    def scores(self, mask: Masked, step: int) -> Tensor:
        """Scores the entries of a mask by magnitude: the lowest go first.

        Shapes: those of the mask.

        Raises: InputError if a weight is not finite; it names the step.
        """
        module = mask.module
        if isinstance(module, MaskedLayer):
            wide = torch.promote_types(module.weight.dtype, torch.float32)
            scores = module.weight.detach().abs().to(wide)
        else:
            device = module.mask.device
            scores = magnitudes(self._sources[mask.name], module.mask.numel(), device)
        if not bool(torch.isfinite(scores.sum())) and not bool(torch.isfinite(scores).all()):
            raise InputError(
                f"step {step}: weights behind {mask.name} are not finite, so nothing can be ranked "
                "by them; look for what made them so, or train with a lower learning rate"
            )
        if isinstance(module, MaskedLayer) and module.pattern == "2:4":
            return two_of_four(scores, fours(module)[0])
        return scores

    def worth(self, mask: Masked) -> Tensor:
        """Returns the largest |γ|, or mean |w|, that each channel has in a penalised layer.

        Shapes: those of the mask.
        """
        # only the penalised tensor, not the shift or bias beside it
        penalised = {(id(p.weight.owner), p.weight.attribute) for p in self._penalised}
        size, device = mask.module.mask.numel(), mask.module.mask.device
        sources = self._sources[mask.name]
        own = [s for s in sources if (id(s.weight.owner), s.weight.attribute) in penalised]
        rows = [source.means(size).to(device) for source in own]
        return torch.stack(rows).amax(0) if rows else torch.ones(size, device=device)


def _check_pattern(name: str, layer: MaskedLayer) -> None:
    size = fours(layer)[1]
    if layer.pattern == "2:4" and size % 4:
        raise InputError(
            f"{name} is masked in fours (pattern=2:4) and has {size} inputs for each output now; "
            "mask after channels are removed, or remove them with round_to: 4"
        )
