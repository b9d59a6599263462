"""Multiplies channels by masks: set by a schedule, or learned."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from gfx.ir.modules.sparsity_ramp import Ramp, check_choice, ramp_of

__all__ = [
    "ChannelMask",
    "Granularity",
    "Kind",
    "LearnedMask",
    "Scope",
    "is_index",
    "kept_entries",
    "spread",
]

Granularity = Literal["filter", "channel"]
Kind = Literal["agp", "ppcd", "slimming", "l1"]
Scope = Literal["local", "global"]


_HALF = 0.5


class ChannelMask(nn.Module):
    """Multiplies channels by a mask of zeros and ones, which a schedule sets.

    One mask may be called at several places of a graph: wherever the channels of its group are
    read. It has one entry for each channel of the group. Where a place has other positions than
    that (several positions a channel, or channels of several groups), `index` says for each
    position along `dim` which channel is there, -1 for one of another group. Where there are more
    positions than entries in the mask or the index, the entries repeat, as where a batch is folded
    into the channels. Whoever sets the mask leaves `least` entries as they are, or all there are.

    The mask is stored as numbers, so that an average of models (EMA) averages it too; an entry
    counts as one from a half on. Of an averaged model, the channels go that most of it had masked.

    Shapes: `mask` (size,), `kept` (size,) of booleans; the output is that of the input.

    Example:
        >>> mask = ChannelMask(2)
        >>> mask.mask[1] = 0
        >>> mask(torch.ones(1, 2, 1, 1)).flatten()
        tensor([1., 0.])
        >>> mask(torch.ones(1, 5), 1, torch.tensor([0, 0, 1, 1, -1]))
        tensor([[1., 1., 0., 0., 1.]])
    """

    mask: Tensor

    def __init__(
        self,
        size: int,
        ramp: Ramp | tuple[float, float, int, int, int] = Ramp(),  # noqa: B008 - immutable
        granularity: Granularity = "channel",
        scope: Scope = "local",
        kind: Kind = "agp",
        least: int = 1,
    ) -> None:
        super().__init__()
        self.size = size
        self.least = least
        self.ramp = ramp_of(ramp)
        check_choice("granularity", granularity, get_args(Granularity))
        check_choice("scope", scope, get_args(Scope))
        check_choice("kind", kind, get_args(Kind))
        self.granularity = granularity
        self.scope = scope
        self.kind = kind
        self.register_buffer("mask", torch.ones(size))
        self._placed: dict[str, tuple[int, ...]] = {}  # what each index holds

    def add_index(self, index: Tensor) -> str:
        """Registers a buffer that says which channel each position of a place is, -1: of another.

        Shapes: `index` (positions,) of integers.

        Returns: the name of the buffer, which the graph passes back to `forward`.
        """
        name = f"index_{sum(map(is_index, self._buffers))}"
        self.register_buffer(name, index.to(device=self.mask.device, dtype=torch.int64))
        self.note_index(name)
        return name

    def note_index(self, name: str) -> None:
        """Notes what an index holds: whoever writes one says so."""
        index = getattr(self, name)
        if not index.is_meta:
            self._placed[name] = tuple(index.tolist())

    def spoiled(self, name: str) -> int:
        """Counts the entries of an index that are not what was noted, as of an average that is cut.

        Example:
            >>> mask = ChannelMask(2)
            >>> name = mask.add_index(torch.tensor([0, 1, -1]))
            >>> _ = mask.index_0.copy_(0.8 * mask.index_0 + 0.1999 * mask.index_0)
            >>> mask.spoiled(name)
            2
        """
        noted = self._placed.get(name)
        if noted is None:
            return 0
        now = getattr(self, name).tolist()
        return sum(a != b for a, b in zip(noted, now, strict=True))

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Gives copies of indices: an average over what a state dict holds would cut them."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in filter(is_index, self._buffers):
            destination[prefix + name] = destination[prefix + name].clone()

    def keep_best(self, keep: Tensor, worth: Tensor) -> Tensor:
        """Returns a mask in which the `least` entries of most worth stay, whatever it says of them.

        Shapes: `keep` booleans (size,), `worth` (size,); of equals the first stay.

        Example:
            >>> mask = ChannelMask(3, least=2)
            >>> mask.keep_best(torch.zeros(3, dtype=torch.bool), torch.tensor([1.0, 3.0, 2.0]))
            tensor([False,  True,  True])
        """
        best = worth.argsort(descending=True, stable=True)[: self.least]
        return keep.index_fill(0, best, True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores a pickle; those of earlier versions do not say how many entries stay."""
        super().__setstate__({"least": 1, "_placed": {}, **state})  # type: ignore[no-untyped-call]

    @property
    def kept(self) -> Tensor:
        """Which entries are one, (size,) of booleans."""
        return kept_entries(self.mask)

    def factors(self) -> Tensor:
        """Returns what the channels are multiplied by, (size,)."""
        return self.kept

    def forward(self, x: Tensor, dim: int = 1, index: Tensor | None = None) -> Tensor:
        """Masks the channels along `dim`."""
        factors = spread(self.factors(), x.shape[dim], index)
        view = [1] * x.dim()
        view[dim] = -1
        factors = factors.view(view)
        return x * (factors if factors.dtype == torch.bool else factors.to(x.dtype))

    def extra_repr(self) -> str:
        """Writes the settings."""
        return f"{self.size}, {self.kind}, {self.granularity}, {self.scope}, {self.ramp}"


def kept_entries(mask: Tensor) -> Tensor:
    """Returns which entries of a mask count as one; models of earlier versions hold booleans.

    Example:
        >>> kept_entries(torch.tensor([1.0, 0.9, 0.1])), kept_entries(torch.tensor([False]))
        (tensor([ True,  True, False]), tensor([False]))
    """
    return mask if mask.dtype == torch.bool else mask >= _HALF


def spread(factors: Tensor, size: int, index: Tensor | None = None) -> Tensor:
    """Returns what each of `size` positions is multiplied by, from what each channel is.

    Shapes: `factors` (channels,), `index` as `ChannelMask` has it; the result is (size,).

    Example:
        >>> spread(torch.tensor([2.0, 3.0]), 6, torch.tensor([0, 1, -1]))
        tensor([2., 3., 1., 2., 3., 1.])
    """
    if index is not None:
        one = torch.ones(1, dtype=factors.dtype, device=factors.device)
        factors = torch.cat([factors, one])[index]  # -1 is the last
    if 0 < factors.numel() < size:  # a batch folded into the channels
        factors = factors.repeat(size // factors.numel())
    return factors


def is_index(name: str) -> bool:
    """Whether a buffer of a mask is one that `add_index` registers.

    Example:
        >>> is_index("index_0"), is_index("mask")
        (True, False)
    """
    return name.startswith("index_")


class LearnedMask(ChannelMask):
    """Multiplies channels by a learned mask m, and once it is binarized by 1[m ≥ α].

    Reconstructed: the paper's equations are not available. m begins at 1, so that nothing
    changes. Until `binarize` is called for the first time, m itself multiplies; then
    b = 1[m ≥ α] does, and the gradient goes straight through b to m, so that channels may come
    back.

    Shapes: `m` (size,), a parameter; `mask` (size,); `binary` ().

    Source: PPCD-GAN (2022), procedure 1 (the supplement); the mask itself is reconstructed.

    Example:
        >>> mask = LearnedMask(2)
        >>> with torch.no_grad():
        ...     _ = mask.m.copy_(torch.tensor([0.9, 0.2]))
        >>> mask(torch.ones(1, 2)).detach()
        tensor([[0.9000, 0.2000]])
        >>> mask.binarize(0.5)
        >>> mask(torch.ones(1, 2)).detach()
        tensor([[1., 0.]])
    """

    binary: Tensor

    def __init__(
        self,
        size: int,
        ramp: Ramp | tuple[float, float, int, int, int] = Ramp(),  # noqa: B008 - immutable
        strength: float = 1.0,
        least: int = 1,
    ) -> None:
        super().__init__(size, ramp, kind="ppcd", least=least)
        self.strength = strength  # of the penalty
        self.m = nn.Parameter(torch.ones(size))
        self.register_buffer("binary", torch.zeros(()))

    def factors(self) -> Tensor:
        """Returns m, or the binary mask with the gradient of m."""
        hard = torch.where(self.is_binary, self.kept.to(self.m.dtype), self.m.detach())
        return hard + (self.m - self.m.detach())

    @property
    def is_binary(self) -> Tensor:
        """Whether the mask multiplies in the place of m, ()."""
        return kept_entries(self.binary)

    @torch.no_grad()
    def binarize(self, alpha: float) -> None:
        """Sets the mask to 1[m ≥ α]; the `least` largest m stay in any case."""
        self.mask.copy_(self.keep_best(self.m >= alpha, self.m))
        self.binary.fill_(1)

    def extra_repr(self) -> str:
        """Writes the settings."""
        return f"{self.size}, {self.ramp}, strength={self.strength}"
