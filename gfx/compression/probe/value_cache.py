"""Caches values of one program's nodes, within a number of bytes.

A value is identified by its version: the node that made it, and the node that last overwrote its
memory (the same where nothing did). A kept value is never written to: where a node is about to
overwrite its memory, the value moves to a copy.
"""

from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from gfx.ir.execute import tensors

__all__ = ["Key", "ValueCache", "Version", "memory_of", "moved"]

Version = tuple[fx.Node, fx.Node]
Key = tuple[int, Version]  # number of a batch, and the version of a value
Pieces = dict[int, torch.UntypedStorage]  # copies, by the identity of the original


class ValueCache:
    """Keeps values by batch and version, and counts the bytes of their memory once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit  # bytes
        self.used = 0
        self.values: dict[Key, Any] = {}
        self._shares: dict[int, int] = {}  # by piece of memory: how many values are in it

    def __contains__(self, key: Key) -> bool:
        return key in self.values

    def __getitem__(self, key: Key) -> Any:
        return self.values[key]

    def keep(self, key: Key, value: Any) -> None:
        """Keeps a value, even if the limit is exceeded."""
        self.drop([key])
        self.values[key] = value
        for piece, size in memory_of(value).items():
            self._shares[piece] = self._shares.get(piece, 0) + 1
            self.used += size if self._shares[piece] == 1 else 0

    def offer(self, key: Key, value: Any) -> None:
        """Keeps a value if it fits."""
        new = sum(size for piece, size in memory_of(value).items() if piece not in self._shares)
        if self.used + new <= self.limit:
            self.keep(key, value)

    def drop(self, keys: Iterable[Key]) -> None:
        """Drops values."""
        for key in keys:
            value = self.values.pop(key, None)
            for piece, size in memory_of(value).items():
                self._shares[piece] -= 1
                if not self._shares[piece]:
                    del self._shares[piece]
                    self.used -= size

    def make_room(self, size: int, needed: Collection[Key]) -> None:
        """Drops values that are not needed until `size` bytes are free.

        The most recent goes first: batches are visited in turn, again and again, so at least the
        first ones stay.
        """
        for key in [key for key in reversed(self.values) if key not in needed]:
            if self.used + size <= self.limit:
                return
            self.drop([key])

    def part(self, keys: Iterable[Key]) -> None:
        """Moves kept values to memory of their own, which they share among them alone."""
        pieces: Pieces = {}
        for key in [key for key in keys if key in self.values]:
            self.keep(key, moved(self.values[key], pieces))


def memory_of(value: Any) -> dict[int, int]:
    """Returns the bytes of each piece of memory that a value's tensors are in.

    Example:
        >>> x = torch.zeros(2, 3)
        >>> list(memory_of((x, x[0])).values())
        [24]
    """
    pieces = (t.untyped_storage() for t in tensors(value))
    return {piece._cdata: piece.nbytes() for piece in pieces}


def moved(value: Any, pieces: Pieces) -> Any:
    """Copies the tensors of a value with their memory, in the same layout.

    `pieces` maps memory to the copies made before, and receives the new ones: values that share
    memory share it afterwards.

    Example:
        >>> x, pieces = torch.zeros(4), {}
        >>> whole, part = moved(x, pieces), moved(x[2:], pieces)
        >>> part.fill_(1), whole, x
        (tensor([1., 1.]), tensor([0., 0., 1., 1.]), tensor([0., 0., 0., 0.]))
    """

    def move(tensor: Tensor) -> Tensor:
        source = tensor.untyped_storage()
        if source._cdata not in pieces:
            pieces[source._cdata] = source.clone()  # type: ignore[no-untyped-call]
        empty = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        place = (tensor.storage_offset(), tensor.shape, tensor.stride())
        twin = empty.set_(pieces[source._cdata], *place)
        twin = torch._neg_view(twin) if tensor.is_neg() else twin
        return torch._conj(twin) if tensor.is_conj() else twin

    return pytree.tree_map_only(Tensor, move, value)
