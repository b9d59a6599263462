"""Copies tensors only when one side is written: until then both read one memory.

1. The first side that writes, in any way that torch knows of, gets memory of its own.
2. `finish` gives every copy that is still alive memory of its own; the sources keep theirs, at the
   same addresses.
3. Memory that torch cannot share this way is copied at once: of numpy, other processes, devices,
   and files. The last has no allocator, and torch would crash as it makes the copy.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

__all__ = ["CopyOnWrite", "clone_on_write", "copy_on_write"]

# the innermost `copy_on_write` that is open
_ACTIVE: ContextVar["CopyOnWrite | None"] = ContextVar("copy_on_write", default=None)


class CopyOnWrite:
    """Copies tensors on write, and knows which copies are alive.

    Example:
        >>> copied = CopyOnWrite()
        >>> weight = torch.ones(3)
        >>> twin = copied(weight)
        >>> _ = twin.mul_(2)
        >>> weight, twin
        (tensor([1., 1., 1.]), tensor([2., 2., 2.]))
    """

    def __init__(self) -> None:
        self._copies: dict[int, StorageWeakRef] = {}
        self._sources: dict[int, StorageWeakRef] = {}
        self._finished = False

    def __call__(self, tensor: Tensor) -> Tensor:
        """Returns a copy of a tensor, without its history."""
        if self._finished or not _sharable(tensor):
            return tensor.detach().clone()
        try:
            twin = torch._lazy_clone(tensor.detach())
        except RuntimeError:  # rule 3
            return tensor.detach().clone()
        for known, each in ((self._copies, twin), (self._sources, tensor)):
            storage = StorageWeakRef(each.untyped_storage())  # type: ignore[no-untyped-call]
            known[storage.cdata] = storage
        return twin

    def finish(self) -> None:
        """Gives every copy that is alive memory of its own (rule 2); the next are made at once."""
        self._finished = True
        # whoever is last takes the memory over as it is, so the copies go first
        for reference in (*self._copies.values(), *self._sources.values()):
            storage = torch.UntypedStorage._new_with_weak_ptr(reference.cdata)
            if storage is not None:
                storage.data_ptr()  # torch takes this for a write
        self._copies.clear()
        self._sources.clear()


def _sharable(tensor: Tensor) -> bool:
    """Whether torch can share a tensor's memory until it is written (rule 3)."""
    if not hasattr(torch, "_lazy_clone") or tensor.device.type != "cpu" or tensor.is_inference():
        return False
    return tensor.untyped_storage().resizable()  # what is not has no allocator


@contextmanager
def copy_on_write() -> Iterator[CopyOnWrite]:
    """Copies on write inside; on leaving, nothing shares memory with what it was copied from.

    Example:
        >>> weight = torch.ones(3)
        >>> with copy_on_write() as copied:
        ...     twin = copied(weight)
        >>> twin.untyped_storage().data_ptr() == weight.untyped_storage().data_ptr()
        False
    """
    copied = CopyOnWrite()
    token = _ACTIVE.set(copied)
    try:
        yield copied
    finally:
        _ACTIVE.reset(token)
        copied.finish()


def clone_on_write(tensor: Tensor) -> Tensor:
    """Copies a tensor: on write inside `copy_on_write`, else at once.

    Example:
        >>> weight = torch.ones(3)
        >>> with copy_on_write():
        ...     _ = clone_on_write(weight).mul_(2)
        >>> weight
        tensor([1., 1., 1.])
    """
    copied = _ACTIVE.get()
    return tensor.clone() if copied is None else copied(tensor)
